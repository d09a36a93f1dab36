/**
 * The story of a backup's beginning: everything is checked and opened first,
 * then the point in time is fixed. What follows is in `backup/running.ts`.
 */
import { randomUUID } from 'node:crypto';
import { abortedError } from './backup/failure.js';
import { alsoNotThawed, Hooks, type Instant } from './backup/hooks.js';
import {
  type BackupOptions,
  type CheckedOptions,
  checkOptions,
  defaultContainerBytes,
} from './backup/options.js';
import { type Resources, release, remembering } from './backup/resources.js';
import { type BackupResult, type BackupState, RunningBackup } from './backup/running.js';
import { dropFreeBlocks } from './backup/used.js';
import { BackupView, openNativeView, type PointInTimeView } from './backup/view.js';
import type { NativeNotice, NativeOriginInfo, NativeSession } from './binding.js';
import { BlockList } from './blocks/block-list.js';
import { memoryContainer } from './container/memory-container.js';
import { type ResolvedWatermarks, resolveWatermarks } from './container/watermarks.js';
import type { BackupEvent, BlocksEvent } from './events.js';
import type { Extent } from './extent.js';
import { fromNative } from './native-errors.js';
import { findExportPlugin, findNbdkit } from './serve/nbdkit.js';
import type { BackupStats } from './stats.js';

export type { AfterThaw, BeforeFreeze, HookContext, ThawContext } from './backup/hooks.js';
export type { BackupOptions } from './backup/options.js';
export type { BackupResult, BackupState } from './backup/running.js';
export type { PointInTimeView, ViewExport } from './backup/view.js';

/** One sweep read, and the threads that copy: enough to fill an NVMe disk from two cores. */
const READ_BYTES = 2 ** 19;
const COPY_THREADS = 2;

/** A backup under way, or ended. */
export interface Backup extends AsyncDisposable {
  /** A UUID, as in the manifest. */
  readonly id: string;
  /**
   * `running`, `paused` or `finishing`; then `finished`, `broken` (by the
   * driver, the target or the container), `failed` (all was copied, but could
   * not be made durable) or `aborted`.
   */
  readonly state: BackupState;
  /** The point in time: the backup is the origin as it stood then. */
  readonly startedAt: Date;
  /** How NBD clients name the start instant, with the option `export`. */
  readonly exportUri: string | undefined;
  /** Figures as of now; after the end, as of the end. */
  stats(): BackupStats;
  /**
   * Copies these extents next; what is not in the block list, or copied
   * already, costs nothing. Up to 64 extents of a call keep their order, more
   * are copied ascending.
   *
   * @throws TypeError or RangeError for what is no extent of the device, or
   * when 100,000 runs wait already.
   */
  prioritize(extents: Iterable<Extent>): void;
  /** Stops the sweep. Captures go on, so that writers do. Nothing once it ended. */
  pause(): void;
  /** Undoes `pause()`. */
  resume(): void;
  /**
   * Changes the rate of the sweep, bytes a second; `undefined`: no limit. Acts
   * within a second.
   *
   * @throws TypeError or RangeError
   */
  setRate(bytesPerSecond: number | undefined): void;
  /**
   * Opens the origin as of the start instant, to be read while the backup runs:
   * what was not written since from the origin, the rest from where it was kept.
   * Several may be open. It holds no write back and slows none.
   *
   * `finished` waits for no view. A view that is open then goes on over the
   * target, which is closed (a device given back, `close()` of a target written
   * in JavaScript called) after the last of them; origin and container are given
   * back at once.
   *
   * @throws SnapbakError `ERR_SNAPBAK_VIEW` if the target cannot be read back (one
   * written in JavaScript without `read`), or the backup has ended.
   * @example
   * ```ts
   * await using view = await backup.view();
   * const superblock = await view.read(1024, 1024);
   * ```
   */
  view(): Promise<PointInTimeView>;
  /**
   * Gives the backup up and waits until everything is given back. The origin
   * goes on; the backup is never good afterwards. While the backup is being
   * committed it is too late: it finishes. Idempotent.
   */
  abort(reason?: unknown): Promise<void>;
  /**
   * What happens, for any number of readers, each with a bounded queue:
   * `started` first, whenever a reader comes, then what happens from then on,
   * and last `finished`, `broken` or `error`. A slow reader gets the newest
   * `progress` only, `spill`, `throttle` and `hold` summed, and invalid blocks
   * beyond 10,000 as a number.
   */
  events(): AsyncIterableIterator<BackupEvent>;
  /**
   * Resolves once the backup is complete and durable; rejects with a
   * `SnapbakError`: `ERR_SNAPBAK_HOLD_TIMEOUT`, `_STALLED`, `_TARGET`, `_CONTAINER_LOST`,
   * `_DRIVER_GONE`, `_BROKEN`, `_ABORTED`. Nobody needs to listen.
   */
  readonly finished: Promise<BackupResult>;
}

/**
 * Starts a backup. Resolves when the point in time is fixed: whatever is
 * written to the origin from then on is not in the backup.
 *
 * Everything is checked and opened before; if a step fails, the earlier ones
 * are undone, and nothing is left behind.
 *
 * @throws TypeError or RangeError that names an option and its value.
 * @throws SnapbakError `ERR_SNAPBAK_BUSY` if the origin has a session,
 * `_CONTAINER`, `_TARGET_REFUSED`, `_TARGET`, `_HOOK` (by `beforeFreeze`),
 * `_START_TIMEOUT`, `_ABORTED` (by `signal`), `_DRIVER_GONE`, what `openOrigin` throws, and with `export`
 * what `Backup.view()` and `PointInTimeView.export()` throw.
 * @example
 * ```ts
 * await using origin = await openOrigin('unix:/run/vm1.control');
 * const backup = await startBackup({ origin, target: directoryTarget('/backup/monday') });
 * console.log('the backup is the disk as of', backup.startedAt);
 * const { state, stats } = await backup.finished;
 * console.log(state, stats.doneBytes);
 * ```
 */
export async function startBackup(options: BackupOptions): Promise<Backup> {
  const checked = checkOptions(options);
  const createdAt = new Date();
  const notices = new Notices();
  const held: Partial<Resources> = {};
  if (checked.export !== undefined) {
    // what is missing is told before anything is begun
    findNbdkit();
    findExportPlugin();
  }
  const id = randomUUID();
  const hooks = new Hooks({ ...checked, id, origin: checked.origin.spec });
  let fixed = false; // the point in time
  try {
    const resources = await openAll(checked, held);
    const { session, container, blockSize } = resources;
    const watermarks = resolveWatermarks(checked.watermarks, container.slots, blockSize);
    const { rate, latencyGoal, maxDelay, holdTimeout, stallTimeout, signal } = checked;
    await prepare(checked, resources, watermarks, (notice) => notices.receive(notice));
    checkSignal(signal);
    const writeDirtyPages = () => unlessAborted(() => checked.origin.writeDirtyPages(), signal);
    // once before, so that little is left to write while the application is at rest
    if (hooks.quiesces) await writeDirtyPages();
    const instant = await hooks.around(async () => {
      await writeDirtyPages();
      return fixInstant(checked, session);
    });
    fixed = true;
    checkSignal(signal);
    const used = await findUsed(checked, resources);
    if (checked.export !== undefined) {
      resources.exported = held.exported = await exportView(
        resources,
        checked.origin.spec,
        checked.export,
        signal,
      );
    }
    const backup = new RunningBackup({
      ...resources,
      ...used,
      ...instant,
      id,
      spec: checked.origin.spec,
      createdAt,
      thawed: hooks.thawed,
      rate,
      latencyGoal,
      origin: checked.origin,
      watermarks,
      maxDelay,
      holdTimeout,
      stallTimeout,
      signal,
    });
    backup.begin();
    notices.pass((notice) => backup.notice(notice));
    return backup;
  } catch (error) {
    const [, notThawed] = await Promise.all([release(held), hooks.thawed]);
    // what went wrong before, around() has told already
    throw fixed && notThawed !== undefined ? alsoNotThawed(error, notThawed) : error;
  }
}

async function fixInstant(
  { origin, startTimeout }: CheckedOptions,
  session: NativeSession,
): Promise<Instant> {
  const { startTime, armNs, freezeNs } = await session.start(startTimeout).catch((error: unknown) => {
    throw fromNative(error, { path: origin.spec, doing: 'fix the point in time', stage: 'start' });
  });
  return { startedAt: new Date(startTime), armMs: armNs / 1e6, freezeMs: freezeNs / 1e6 };
}

/** The session first: a busy origin is told before anything is created. */
async function openAll(checked: CheckedOptions, held: Partial<Resources>): Promise<Resources> {
  const { origin, blockSize, signal } = checked;
  checkSignal(signal);
  const session = origin.createSession();
  held.session = session;
  const info = await session.open().catch((error: unknown) => {
    throw fromNative(error, { path: origin.spec, doing: 'open a session on the origin', stage: 'open' });
  });
  checkSignal(signal);
  const list = listFor(checked, info);
  const container = await (checked.container ?? memoryContainer(defaultContainerBytes(info.size))).open({
    origin: info,
    blockSize,
  });
  held.container = container;
  checkSignal(signal);
  const target = await checked.target.prepare({ size: info.size, blockSize, origin: info });
  held.target = target;
  checkSignal(signal);
  const { native: nativeTarget, cause: targetCause } = remembering(target.native);
  const targetName = checked.target.description;
  // what the container is on the origin is written while the session runs, and is nobody's data
  const excluded = BlockList.extents(container.excluded ?? []);
  return {
    session,
    info,
    container,
    target,
    nativeTarget,
    targetName,
    targetCause,
    blockSize,
    list: list.subtract(excluded),
  };
}

function listFor({ blocks, blockSize }: CheckedOptions, info: NativeOriginInfo): BlockList {
  if (blockSize < info.minBlockSize || blockSize > info.maxBlockSize) {
    throw new RangeError(
      `options.blockSize must be from ${info.minBlockSize} to ${info.maxBlockSize} for this driver, not ${blockSize}`,
    );
  }
  const list = blocks === undefined || blocks === 'used' ? BlockList.all(info.size) : blocks;
  if (list.end > info.size) {
    throw new RangeError(
      `options.blocks must end at or before the end of the origin (${info.size} bytes), not at ${list.end}`,
    );
  }
  return list.alignTo(blockSize, info.size);
}

async function prepare(
  checked: CheckedOptions,
  { session, container, target, nativeTarget, list, blockSize }: Resources,
  watermarks: ResolvedWatermarks,
  onNotice: (notice: NativeNotice) => void,
): Promise<void> {
  try {
    await session.prepare({
      blockSize,
      slots: watermarks.full,
      onFull: checked.onFull,
      holdTimeoutMs: checked.holdTimeout,
      stallTimeoutMs: checked.stallTimeout,
      listed: list.flat(),
      target: nativeTarget,
      checksumsFd: target.checksumsFd,
      tiers: container.tiers ?? [],
      watermarkLow: watermarks.low,
      drainTo: watermarks.drainTo,
      copyThreads: COPY_THREADS,
      readBytes: READ_BYTES,
      onNotice,
    });
  } catch (error) {
    throw fromNative(error, { path: checked.origin.spec, doing: 'set the session up', stage: 'setup' });
  }
  container.tiers?.forEach((tier, number) => {
    tier.begin?.((capacity) => session.resizeTier(number, capacity));
  });
}

/** Before the sweep begins: it has nothing to do with what is free. */
async function findUsed(
  { blocks, origin, signal }: CheckedOptions,
  resources: Resources,
): Promise<{ list: BlockList; blocksEvent: BlocksEvent } | undefined> {
  if (blocks !== 'used') return undefined;
  const { list, event } = await dropFreeBlocks(resources, origin.spec, signal);
  checkSignal(signal);
  return { list, blocksEvent: event };
}

/** Before the sweep begins, so that who sees the start can connect; writers do not wait for it. */
async function exportView(
  { session, info }: Resources,
  spec: string,
  socket: string,
  signal: AbortSignal | undefined,
): Promise<NonNullable<Resources['exported']>> {
  const view = new BackupView({
    native: await openNativeView(session, spec),
    spec,
    size: info.size,
    blocks: () => BlockList.all(info.size),
  });
  try {
    return { view, uri: (await view.export(socket, signal)).uri };
  } catch (error) {
    await view.close();
    throw error;
  }
}

/** Waits for `work`, which cannot be cancelled itself. */
async function unlessAborted(work: () => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work();
  let stop = () => {};
  const aborted = new Promise<void>((resolve) => {
    stop = resolve;
  });
  signal.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([work(), aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
  checkSignal(signal);
}

function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal.reason);
}

/** Keeps the notices that come before there is a backup to take them. */
class Notices {
  #kept: NativeNotice[] | undefined = [];
  #to: ((notice: NativeNotice) => void) | undefined;

  receive(notice: NativeNotice): void {
    if (this.#to === undefined) this.#kept?.push(notice);
    else this.#to(notice);
  }

  pass(to: (notice: NativeNotice) => void): void {
    this.#to = to;
    for (const notice of this.#kept ?? []) to(notice);
    this.#kept = undefined;
  }
}
