/**
 * The story of a backup's beginning: everything is checked and opened first,
 * then the point in time is fixed. What follows is in `backup/running.ts`.
 */
import { randomUUID } from 'node:crypto';
import type { BackupClone } from './backup/clone-options.js';
import { checkSignal, Disk } from './backup/disk.js';
import { freezeOrder } from './backup/freeze-order.js';
import { BackupGroup } from './backup/group.js';
import { GroupTarget } from './backup/group-target.js';
import { alsoNotThawed, Hooks } from './backup/hooks.js';
import { fixInstant } from './backup/instant.js';
import { type BackupOptions, type CheckedOptions, checkOptions } from './backup/options.js';
import type { BackupResult, BackupState } from './backup/running.js';
import type { PointInTimeView } from './backup/view.js';
import type { BackupEvent } from './events.js';
import type { Extent } from './extent.js';
import type { GroupManifest, Manifest } from './manifest.js';
import { findExportPlugin, findNbdkit } from './serve/nbdkit.js';
import type { BackupStats } from './stats.js';

export type { AfterThaw, BeforeFreeze, HookContext, ThawContext } from './backup/hooks.js';
export type { BackupOptions } from './backup/options.js';
export type { SweepOrder } from './backup/order.js';
export type { OriginPlan } from './backup/plans.js';
export type { BackupResult, BackupState, DiskResult } from './backup/running.js';
export type { PointInTimeView, ViewExport } from './backup/view.js';

/** A backup under way, or ended; of several origins its manifest is a `GroupManifest`. */
export interface Backup<M = Manifest> extends AsyncDisposable {
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
  /** The second device, with the option `clone`. With a `socket` it outlives the backup, until its `close()`. */
  readonly clone: BackupClone | undefined;
  /** Figures as of now; after the end, as of the end. Of several origins: of all, and in `disks` of each. */
  stats(): BackupStats;
  /**
   * Copies these extents next; what is not in the block list, or copied
   * already, costs nothing. Up to 64 extents of a call keep their order, more
   * are copied ascending.
   *
   * @throws TypeError or RangeError for what is no extent of the device, or
   * when 100,000 runs wait already; RangeError unless `disk` names one of
   * several origins, or the backup is of one.
   */
  prioritize(extents: Iterable<Extent>, disk?: string): void;
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
   * @param disk the name of one of several origins
   * @throws SnapbakError `ERR_SNAPBAK_VIEW` if the target cannot be read back (one
   * written in JavaScript without `read`), or the backup has ended.
   * @example
   * ```ts
   * await using view = await backup.view();
   * const superblock = await view.read(1024, 1024);
   * ```
   */
  view(disk?: string): Promise<PointInTimeView>;
  /**
   * Gives the backup up and waits until everything is given back. The origin
   * goes on; the backup is never good afterwards. While the backup is being
   * committed it is too late: it finishes. Idempotent.
   */
  abort(reason?: unknown): Promise<void>;
  /**
   * What happens, for any number of readers, each with a bounded queue:
   * `started` first, whenever a reader comes, and what happens once (`blocks`,
   * `hook`, `clone-lost`), then what happens from then on, and last `finished`,
   * `broken` or `error`. A slow reader gets the newest `progress` only, `spill`,
   * `throttle` and `hold` summed, and invalid blocks beyond 10,000 as a number.
   */
  events(): AsyncIterableIterator<BackupEvent>;
  /**
   * Resolves once the backup is complete and durable; rejects with a
   * `SnapbakError` (of several origins: that of the first which broke, and the
   * message names all): `ERR_SNAPBAK_HOLD_TIMEOUT`, `_STALLED`, `_TARGET`, `_CONTAINER_LOST`,
   * `_DRIVER_GONE`, `_BROKEN`, `_MANIFEST` (its block list is too long to be kept), `_ABORTED`. Nobody needs to listen.
   */
  readonly finished: Promise<BackupResult<M>>;
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
 * `_CONTAINER`, `_TARGET_REFUSED`, `_TARGET`, `_CLONE`, `_HOOK` (by `beforeFreeze`),
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
export async function startBackup(
  options: BackupOptions & Required<Pick<BackupOptions, 'origins'>>,
): Promise<Backup<GroupManifest>>;
export async function startBackup(options: BackupOptions): Promise<Backup>;
export async function startBackup(options: BackupOptions): Promise<Backup | Backup<GroupManifest>> {
  const checked = checkOptions(options);
  const createdAt = new Date();
  if (checked.export !== undefined || checked.disks.some(({ clone }) => clone?.socket !== undefined)) {
    // what is missing is told before anything is begun
    findNbdkit();
    findExportPlugin();
  }
  const id = randomUUID();
  const { signal, rate } = checked;
  const disks = checked.disks.map((plan) => new Disk(plan, checked));
  const origins = disks.map(({ spec }) => spec);
  const hooks = new Hooks({ ...checked, id, origins });
  let group: GroupTarget | undefined;
  let fixed = false; // the point in time
  try {
    await openOrigins(disks);
    // known before it is used: whatever fails from here on, it is closed
    group = await groupTarget(disks, checked);
    await useTarget(disks, group, checked);
    for (const disk of disks) await disk.prepare();
    const inOrder = await freezeOrder(disks, ({ context }) => context.origin);
    const writeDirtyPages = () =>
      unlessAborted(async () => {
        await Promise.all(disks.map((disk) => disk.writeDirtyPages()));
      }, signal);
    // once before, so that little is left to write while the application is at rest
    if (hooks.quiesces) await writeDirtyPages();
    const instant = await hooks.around(async () => {
      await writeDirtyPages();
      return fixInstant(inOrder, checked.startTimeout);
    });
    fixed = true;
    checkSignal(signal);
    await allOf(disks, (disk) => disk.findUsed());
    const sleeper = disks.find(({ hibernated }) => hibernated)?.spec;
    for (const disk of disks) disk.dropFree(sleeper);
    if (checked.export !== undefined) await disks[0]!.export(checked.export);
    const beginning = { id, createdAt, thawed: hooks.thawed, rate, signal };
    if (group !== undefined)
      return new BackupGroup({ ...beginning, ...instant, disks, target: group }).begin();
    const backup = disks[0]!.run(beginning);
    backup.begin();
    disks[0]!.passNotices(backup);
    return backup;
  } catch (error) {
    const release = async () => {
      await Promise.all(disks.map((disk) => disk.release()));
      await group?.close().catch(() => {}); // what matters was decided before
    };
    const [, notThawed] = await Promise.all([release(), hooks.thawed]);
    // what went wrong before, around() has told already
    throw fixed && notThawed !== undefined ? alsoNotThawed(error, notThawed) : error;
  }
}

/** All sessions, then all containers. */
async function openOrigins(disks: readonly Disk[]): Promise<void> {
  for (const disk of disks) await disk.openSession();
  const contexts = disks.map(({ context }) => context);
  for (const [i, disk] of disks.entries()) {
    await disk.openContainer(contexts.filter((_, other) => other !== i).map(({ origin }) => origin));
  }
}

/** The target of several. */
async function groupTarget(
  disks: readonly Disk[],
  { target, several }: CheckedOptions,
): Promise<GroupTarget | undefined> {
  if (!several) return undefined;
  const named = disks.map(({ plan, context }) => ({ name: plan.name, context }));
  return new GroupTarget(await target.prepareGroup!(named));
}

async function useTarget(
  disks: readonly Disk[],
  group: GroupTarget | undefined,
  { target }: CheckedOptions,
): Promise<void> {
  if (group !== undefined) {
    for (const [i, disk] of disks.entries()) disk.useTarget(group.disks[i]!, target.description);
    return;
  }
  const disk = disks[0]!;
  disk.useTarget(await target.prepare(disk.context), target.description);
  await disk.openClone();
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
    checkSignal(signal); // one that was aborted before tells nobody
    await Promise.race([work(), aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
  checkSignal(signal);
}

/** Waits for all of them, also where one fails: nothing may be given back under the others. */
async function allOf(disks: readonly Disk[], step: (disk: Disk) => Promise<void>): Promise<void> {
  for (const result of await Promise.allSettled(disks.map(step))) {
    if (result.status === 'rejected') throw result.reason;
  }
}
