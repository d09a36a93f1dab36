/**
 * A backup from the start instant to its end: takes the notices of the copy
 * threads, and brings the session to exactly one end. Moves no bytes.
 *
 * running <-> paused -> finishing -> finished
 * any of these -> broken (by the driver, the target, the container),
 * failed (all copied, but not made durable), aborted (by the user)
 */
import type { NativeNotice } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import { Throttle } from '../container/throttle.js';
import type { ResolvedWatermarks } from '../container/watermarks.js';
import { publish } from '../diagnostics.js';
import { SnapbakError } from '../errors.js';
import { type BackupEvent, type BlocksEvent, EventChannel } from '../events.js';
import { type Extent, flatten, show, unflatten } from '../extent.js';
import type { RequestTotals } from '../host.js';
import type { Manifest } from '../manifest.js';
import { fromNative, isNativeError } from '../native-errors.js';
import type { Origin } from '../origin.js';
import { type Clock, systemClock } from '../scheduler/clock.js';
import { Governor, type LatencyGoal } from '../scheduler/governor.js';
import { Scheduler } from '../scheduler/scheduler.js';
import type { BackupStats } from '../stats.js';
import type { BackupClone, CloneResult } from './clone-options.js';
import { draftOf, runsOf } from './draft.js';
import {
  abortedError,
  type EndState,
  endEvent,
  endState,
  type FatalNotice,
  failureCode,
  failureOf,
  finishState,
  hookEvent,
} from './failure.js';
import type { Instant } from './hooks.js';
import { Monitor } from './monitor.js';
import { checkRate } from './options.js';
import { type Resources, release } from './resources.js';
import { BackupView, OpenViews, openNativeView, type PointInTimeView } from './view.js';

export type BackupState = 'running' | 'paused' | 'finishing' | 'finished' | 'broken' | 'failed' | 'aborted';

/** What `finished` resolves to; of several origins with a `GroupManifest`. */
export interface BackupResult<M = Manifest> {
  /** A UUID, as in the manifest. */
  id: string;
  state: 'complete' | 'complete-with-invalid-blocks';
  manifest: M;
  stats: BackupStats;
  /** What could not be read from the origin, in bytes, ascending; it is not in the backup. */
  invalidBlocks: Extent[];
  /** From the start instant until the backup was durable. */
  seconds: number;
  /** How the clone ended, where there is one. A lost one does not make the backup any worse. */
  clone?: CloneResult;
  /** Of a backup of several origins, which of them is what; `invalidBlocks` above is of each in turn then. */
  disks?: DiskResult[];
}

/** One of several origins. */
export interface DiskResult extends Pick<BackupResult, 'state' | 'stats' | 'invalidBlocks' | 'seconds'> {
  /** What it is called in the backup. */
  name: string;
  /** The origin, as it was named. */
  origin: string;
}

/** What `startBackup` learned on its way. */
export interface Begun extends Resources, Instant {
  id: string;
  spec: string;
  createdAt: Date;
  /** The application was let go; with the error if that failed. Never rejects. */
  thawed: Promise<SnapbakError | undefined>;
  /** What was found out about the blocks that are used. */
  blocksEvent?: BlocksEvent | undefined;
  /** What of the list is copied before the rest. */
  first?: Iterable<Extent> | undefined;
  rate: number | undefined;
  latencyGoal: LatencyGoal;
  origin: Origin;
  watermarks: ResolvedWatermarks;
  maxDelay: number;
  holdTimeout: number;
  stallTimeout: number;
  signal: AbortSignal | undefined;
  /** Takes the events in place of the diagnostics channels. */
  tell?: (event: BackupEvent) => void;
  /** Called when it copies no more, however long its end may still take. */
  onStopped?: () => void;
}

export class RunningBackup {
  readonly id: string;
  readonly startedAt: Date;
  readonly finished: Promise<BackupResult>;
  readonly #begun: Begun;
  readonly #channel: EventChannel;
  readonly #scheduler: Scheduler;
  readonly #governor: Governor;
  readonly #throttle: Throttle;
  readonly #monitor: Monitor;
  /** `afterThaw` has ended, and its failure was told. */
  readonly #thawed: Promise<void>;
  readonly #invalid: number[] = [];
  readonly #views = new OpenViews();
  /** The block list; it only gets shorter. */
  #list: BlockList;
  readonly #onSignal = () => this.#give(abortedError(this.#begun.signal?.reason));
  #state: BackupState = 'running';
  #resolve!: (result: BackupResult) => void;
  #reject!: (error: Error) => void;
  #ending: Promise<void> | undefined;
  /** The user gave it up while it was finishing. */
  #aborted: SnapbakError | undefined;
  /** The session is asked to finish and has not answered. */
  #finishing = false;
  /** What the driver or a tier reported while it was finishing. */
  #reported: SnapbakError | undefined;

  constructor(begun: Begun, clock: Clock = systemClock) {
    this.#begun = begun;
    this.#list = begun.list;
    this.#channel = new EventChannel(begun.tell ?? ((event) => publish(this.id, begun.spec, event)));
    this.id = begun.id;
    this.startedAt = begun.startedAt;
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.finished.catch(() => {}); // whoever does not listen must not die of it
    const { session, blockSize, info } = begun;
    this.#governor = new Governor({
      goal: begun.latencyGoal,
      rate: begun.rate,
      foreground: () => this.#foreground(),
      queuedBytes: () => session.stats().queuedWorkBytes,
      sweptBytes: () => session.stats().sweptBlocks * blockSize,
      apply: (rate) => this.#scheduler.setRate(rate),
      clock,
    });
    this.#monitor = new Monitor({
      read: () => session.stats(),
      blockSize,
      tiers: this.#tiers,
      foreground: () => this.#governor.stats,
      channel: this.#channel,
      clock,
    });
    this.#scheduler = new Scheduler({
      blocks: begun.list,
      first: begun.first,
      blockSize,
      size: info.size,
      rate: begun.rate,
      push: (work, priority) => session.pushWork(flatten(work), priority),
      queuedBytes: () => session.stats().queuedWorkBytes,
      pendingBlocks: () => {
        const { listedBlocks, safeBlocks } = session.stats();
        return listedBlocks - safeBlocks;
      },
      nextPending: (offset, end) => session.nextPending(offset, end),
      clock,
    });
    const { watermarks, maxDelay } = begun;
    this.#throttle = new Throttle({
      watermarks,
      blockSize,
      maxDelay,
      read: () => session.stats(),
      apply: (throttle) => session.setThrottle(throttle),
      clock,
    });
    this.#thawed = begun.thawed.then((error) => this.#noteHook(error));
  }

  /** Tells that the point in time is fixed, and lets the sweep begin. */
  begin(): void {
    const { info, blockSize, spec, armMs, freezeMs, list } = this.#begun;
    const { totalBytes, listedBlocks } = this.#monitor.stats();
    this.#channel.push({
      event: 'started',
      id: this.id,
      origin: spec,
      startedAt: this.startedAt,
      armMs,
      freezeMs,
      size: info.size,
      blockSize,
      listedBlocks,
      listedBytes: Math.min(totalBytes, list.bytes),
    });
    if (this.#begun.blocksEvent !== undefined) this.#channel.push(this.#begun.blocksEvent);
    this.#begun.clone?.whenLost((error) => {
      const { code, message, path = '', errno } = error;
      const what = errno === undefined ? {} : { errno };
      this.#channel.push({ event: 'clone-lost', to: path, code, message, ...what });
    });
    this.#throttle.start();
    this.#governor.start();
    this.#scheduler.start();
    const { signal } = this.#begun;
    signal?.addEventListener('abort', this.#onSignal, { once: true });
    if (signal?.aborted) this.#onSignal(); // it tells nobody any more
  }

  get state(): BackupState {
    return this.#state;
  }

  stats(): BackupStats {
    return this.#monitor.stats();
  }

  events(): AsyncIterableIterator<BackupEvent> {
    return this.#channel.reader();
  }

  prioritize(extents: Iterable<Extent>, disk?: string): void {
    expectNoDisk(disk);
    this.#scheduler.prioritize(extents);
  }

  pause(): void {
    if (this.#state !== 'running') return;
    this.#state = 'paused';
    this.#scheduler.pause();
    this.#begun.session.setPaused(true);
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'running';
    this.#begun.session.setPaused(false);
    this.#scheduler.resume();
  }

  setRate(bytesPerSecond: number | undefined): void {
    checkRate('bytesPerSecond', bytesPerSecond);
    this.#governor.setRate(bytesPerSecond);
  }

  get clone(): BackupClone | undefined {
    return this.#begun.clone;
  }

  get exportUri(): string | undefined {
    return this.#begun.exported?.uri;
  }

  async view(disk?: string): Promise<PointInTimeView> {
    expectNoDisk(disk);
    const { session, spec, info } = this.#begun;
    const closed = this.#views.opened(); // from now on: the end may come while it is opened
    try {
      const native = await openNativeView(session, spec);
      return new BackupView({ native, spec, size: info.size, blocks: () => this.#list, onClose: closed });
    } catch (error) {
      closed();
      throw error;
    }
  }

  /**
   * Takes blocks that need not be copied after all out of the list, and gives
   * those that were: whole blocks that nobody has captured or copied yet. A
   * backup of nothing is complete.
   */
  unlist(blocks: BlockList): BlockList {
    const flat = this.#begun.session.unlist(blocks.flat());
    const extents = Array.from({ length: flat.length / 2 }, (_, i) => ({
      offset: flat[2 * i]!,
      length: flat[2 * i + 1]!,
    }));
    const taken = BlockList.extents(extents);
    this.#list = this.#list.subtract(taken);
    return taken;
  }

  async abort(reason?: unknown): Promise<void> {
    this.#give(abortedError(reason));
    await this.#ending;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort('its owner went out of scope');
  }

  /** What the copy threads say; called on the JavaScript thread. */
  notice(notice: NativeNotice): void {
    switch (notice.kind) {
      case 'need-work':
        this.#scheduler.needWork();
        return;
      case 'hint':
        this.#scheduler.hint(unflatten(this.#begun.session.takeHints()));
        return;
      case 'complete':
        this.#ending ??= this.#complete();
        return;
      case 'invalid':
        this.#noteInvalid(notice.block, notice.errno);
        return;
      case 'tier2-lost':
        this.#monitor.tier2Lost(notice.errno, notice.tier);
        return;
      default: {
        const error = this.#failure(notice);
        this.#reported ??= error;
        this.#ending ??= this.#breakOff(endState(error), error);
      }
    }
  }

  /** What the container made writers wait is not the device's doing: it is left out. */
  async #foreground(): Promise<RequestTotals> {
    const { io, ioNs, delayedNs, heldNs } = this.#begun.session.stats().counters;
    const { requests, ms } = (await this.#begun.origin.requestTotals()) ?? { requests: io, ms: ioNs / 1e6 };
    return { requests, ms: ms - (delayedNs + heldNs) / 1e6 };
  }

  /** The second tiers, for people. */
  get #tiers(): string[] {
    return (this.#begun.container.tiers ?? []).map(({ description }) => description);
  }

  #noteHook(error: SnapbakError | undefined): void {
    if (error !== undefined) this.#channel.push(hookEvent(error));
  }

  #noteInvalid(block: number, errno: number): void {
    if (this.#ending !== undefined) return;
    this.#invalid.push(block);
    const [extent] = runsOf([block], this.#begun.blockSize, this.#begun.info.size);
    this.#channel.push({ event: 'invalid-block', block, extent: extent!, errno });
  }

  /** The user gives it up; once it is being committed, that is too late. */
  #give(error: SnapbakError): void {
    this.#aborted ??= error;
    // a target of the application's own may never say that it has flushed
    if (this.#finishing) void this.#begun.session.abort().catch(() => {});
    this.#ending ??= this.#breakOff('aborted', error);
  }

  /** Every listed block is in the target, or invalid: makes the backup durable, and good. */
  async #complete(): Promise<void> {
    const { target } = this.#begun;
    this.#stopCopying('finishing');
    let manifest: Manifest;
    try {
      await this.#finishSession();
      manifest = await target.commit(draftOf(this.#facts(this.#monitor.end())));
    } catch (cause) {
      const error = this.#finishError(cause);
      return this.#breakOff(finishState(error), error);
    }
    const stats = this.#monitor.stats();
    const clone = await this.#begun.clone?.finish();
    await this.#releaseButViews(); // a backup that is durable is good, whatever closing says
    await this.#thawed;
    this.#leave('finished');
    const invalidBlocks = this.#facts(stats).invalid;
    const state = invalidBlocks.length === 0 ? 'complete' : 'complete-with-invalid-blocks';
    const { id } = this;
    const { seconds } = stats;
    const told = { id, state, seconds, stats, ...(clone === undefined ? {} : { clone }) } as const;
    this.#channel.push({ event: 'finished', ...told, invalidBlocks: this.#invalid.length });
    this.#resolve({ ...told, manifest, invalidBlocks });
  }

  /** Flushes the target and tells the driver. Until it has come back, the backup can be given up. */
  async #finishSession(): Promise<void> {
    this.#finishing = true;
    try {
      await this.#begun.session.finish();
    } catch (error) {
      throw this.#aborted ?? error;
    } finally {
      this.#finishing = false;
    }
    if (this.#aborted !== undefined) throw this.#aborted;
  }

  #stopCopying(state: BackupState): void {
    this.#state = state;
    this.#throttle.stop();
    this.#governor.stop();
    this.#scheduler.stop();
    this.#begun.onStopped?.();
  }

  /** Gives back all that no view uses; the target once there is none. */
  async #releaseButViews(): Promise<void> {
    const { exported, session, container, target } = this.#begun;
    if (!this.#views.any) return release(this.#begun);
    await release({ exported, session, container });
    this.#views.whenNone(() => void release({ target }));
  }

  /** What the driver or the target said of the end is nearer to the truth than an errno. */
  #finishError(cause: unknown): Error {
    if (cause === this.#aborted) return this.#aborted as SnapbakError;
    if (this.#reported !== undefined) return this.#reported;
    const error = fromNative(cause, { path: this.#begun.spec, doing: 'finish the backup', stage: 'finish' });
    const ofTarget = SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_TARGET' && isNativeError(cause);
    return ofTarget ? this.#failure({ kind: 'target-error', errno: cause.errno }) : error;
  }

  #failure(notice: FatalNotice): SnapbakError {
    const { spec, holdTimeout, stallTimeout, targetName, targetCause } = this.#begun;
    return failureOf(notice, {
      origin: spec,
      target: targetName,
      holdTimeout,
      stallTimeout,
      targetCause: targetCause(),
      tiers: this.#tiers,
    });
  }

  /** Writers first: the session is given up before anything slow is done. */
  async #breakOff(state: EndState, error: Error): Promise<void> {
    const { session, target } = this.#begun;
    this.#stopCopying(state);
    await session.abort().catch(() => {}); // it may be broken, or gone, already
    const stats = this.#monitor.end();
    const { message } = error;
    await target.fail(draftOf(this.#facts(stats), { code: failureCode(error), message })).catch(() => {});
    await release(this.#begun);
    await this.#thawed;
    this.#leave(state);
    this.#channel.push(endEvent(this.id, state, error));
    this.#reject(error);
  }

  #leave(state: BackupState): void {
    this.#state = state;
    this.#begun.signal?.removeEventListener('abort', this.#onSignal);
  }

  #facts(stats: BackupStats) {
    const { id, createdAt, startedAt, info, blockSize } = this.#begun;
    const invalid = runsOf(this.#invalid, blockSize, info.size);
    return { id, createdAt, startedAt, info, blockSize, list: this.#list, invalid, stats };
  }
}

function expectNoDisk(disk: unknown): void {
  if (disk !== undefined)
    throw new RangeError(`disk must not be given (${show(disk)}): the backup is of one origin`);
}
