/**
 * One origin's part of a backup, from its session to its sweep. `startBackup`
 * says when each step is taken: with several origins, all take a step before
 * any takes the next.
 */
import type { NativeInstant, NativeNotice, NativeOriginInfo } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import { memoryContainer } from '../container/memory-container.js';
import { type ResolvedWatermarks, resolveWatermarks } from '../container/watermarks.js';
import type { BlocksEvent } from '../events.js';
import { fromNative } from '../native-errors.js';
import { Relay } from '../relay.js';
import type { PreparedTarget, TargetContext } from '../target/target.js';
import { openClone } from './clone.js';
import { abortedError } from './failure.js';
import type { Instant } from './hooks.js';
import { type CheckedOptions, defaultContainerBytes } from './options.js';
import { copiedFirst, wantsHeat } from './order.js';
import type { DiskPlan } from './plans.js';
import { type Resources, release, remembering } from './resources.js';
import { type Begun, RunningBackup } from './running.js';
import { dropFreeBlocks, type FoundBlocks, findUsedBlocks } from './used.js';
import { BackupView, openNativeView } from './view.js';

/** One sweep read, and the threads that copy: enough to fill an NVMe disk from two cores. */
const READ_BYTES = 2 ** 19;
const COPY_THREADS = 2;

/** What the disks of a backup have in common once it has begun. */
export type Beginning = Pick<Begun, 'id' | 'createdAt' | 'thawed' | 'rate' | 'signal' | 'tell' | 'onStopped'>;

export class Disk {
  readonly plan: DiskPlan;
  readonly #options: CheckedOptions;
  readonly #held: Partial<Resources> = {};
  readonly #notices = new Relay<NativeNotice>();
  #info!: NativeOriginInfo;
  #list!: BlockList;
  #watermarks!: ResolvedWatermarks;
  #instant!: Instant;
  #found: FoundBlocks | undefined;
  #used: { list: BlockList; blocksEvent: BlocksEvent } | undefined;

  constructor(plan: DiskPlan, options: CheckedOptions) {
    this.plan = plan;
    this.#options = options;
  }

  get spec(): string {
    return this.plan.origin.spec;
  }

  /** After `openSession()`. */
  get context(): TargetContext {
    return { size: this.#info.size, blockSize: this.#options.blockSize, origin: this.#info };
  }

  get session() {
    return this.#resources.session;
  }

  /** First of all: a busy origin is told before anything is created. */
  async openSession(): Promise<void> {
    checkSignal(this.#options.signal);
    const session = this.plan.origin.createSession();
    this.#held.session = session;
    this.#info = await session.open().catch((error: unknown) => {
      throw fromNative(error, { path: this.spec, doing: 'open a session on the origin', stage: 'open' });
    });
    this.#held.info = this.#info;
    checkSignal(this.#options.signal);
    this.#list = this.#checkedList();
  }

  /** @param neighbours the other origins of the backup: the container must not lie on one either */
  async openContainer(neighbours: readonly NativeOriginInfo[] = []): Promise<void> {
    const { blockSize, signal } = this.#options;
    const container = this.plan.container ?? memoryContainer(defaultContainerBytes(this.#info.size));
    this.#held.container = await container.open({
      origin: this.#info,
      blockSize,
      ...(neighbours.length === 0 ? {} : { neighbours }),
    });
    checkSignal(signal);
  }

  /** @param name the target, for people */
  useTarget(target: PreparedTarget, name: string): void {
    this.#held.target = target;
    const { native, cause } = remembering(target.native);
    const { blockSize } = this.#options;
    // what the container is on the origin is written while the session runs, and is nobody's data
    const excluded = BlockList.extents(this.#resources.container.excluded ?? []);
    const list = this.#list.subtract(excluded);
    Object.assign(this.#held, {
      nativeTarget: native,
      targetName: name,
      targetCause: cause,
      blockSize,
      list,
    });
    checkSignal(this.#options.signal);
  }

  /** A second device for its blocks, where that was asked for; after `useTarget()`. */
  async openClone(): Promise<void> {
    const { container, target } = this.#resources;
    this.#held.clone = await openClone(this.plan.clone, {
      ...this.context,
      spec: this.spec,
      container,
      target,
    });
    checkSignal(this.#options.signal);
  }

  /** Geometry, buffers, threads, pending bits: all is there but the start. */
  async prepare(): Promise<void> {
    const { session, container, target, clone, nativeTarget, list, blockSize } = this.#resources;
    const { onFull, holdTimeout, stallTimeout } = this.#options;
    this.#watermarks = resolveWatermarks(this.#options.watermarks, container.slots, blockSize);
    try {
      await session.prepare({
        blockSize,
        slots: this.#watermarks.full,
        onFull,
        holdTimeoutMs: holdTimeout,
        stallTimeoutMs: stallTimeout,
        listed: list.flat(),
        target: nativeTarget,
        checksumsFd: target.checksumsFd,
        tiers: container.tiers ?? [],
        watermarkLow: this.#watermarks.low,
        drainTo: this.#watermarks.drainTo,
        copyThreads: COPY_THREADS,
        readBytes: READ_BYTES,
        heat: wantsHeat(this.#options.order, this.#info),
        ...(clone === undefined ? {} : { clone: clone.native }),
        onNotice: this.#notices.call,
      });
    } catch (error) {
      throw fromNative(error, { path: this.spec, doing: 'set the session up', stage: 'setup' });
    }
    container.tiers?.forEach((tier, number) => {
      tier.begin?.((capacity) => session.resizeTier(number, capacity));
    });
    await clone?.show(this.#options.signal);
    checkSignal(this.#options.signal);
  }

  /** So that START has little left to write; errors are START's to tell. */
  async writeDirtyPages(): Promise<void> {
    await Promise.all([this.plan.origin.writeDirtyPages(), this.session.flush().catch(() => {})]);
  }

  /** What START answered; with several, the instant that is common to all. */
  started({ armNs, freezeNs }: NativeInstant, startTime: number): Instant {
    this.#instant = { startedAt: new Date(startTime), armMs: armNs / 1e6, freezeMs: freezeNs / 1e6 };
    return this.#instant;
  }

  /** Before the sweep begins: it has nothing to do with what is free. */
  async findUsed(): Promise<void> {
    const { blocks = 'used' } = this.plan;
    if (blocks !== 'used') return;
    const { signal } = this.#options;
    const unasked = this.plan.blocks === undefined;
    this.#found = await findUsedBlocks(this.#resources, this.spec, { unasked, signal });
    checkSignal(signal);
  }

  /** `findUsed()` has seen that a machine hibernates on it. */
  get hibernated(): boolean {
    return this.#found?.hibernated ?? false;
  }

  /** @param sleeper the origin on which a machine hibernates, if there is one */
  dropFree(sleeper: string | undefined): void {
    if (this.#found === undefined) return;
    const { list, event } = dropFreeBlocks(this.#resources, this.spec, this.#found, sleeper);
    this.#used = { list, blocksEvent: event };
  }

  /** Before the sweep begins, so that who sees the start can connect; writers do not wait for it. */
  async export(socket: string): Promise<void> {
    const { size } = this.#info;
    const view = new BackupView({
      native: await openNativeView(this.#resources.session, this.spec),
      spec: this.spec,
      size,
      blocks: () => BlockList.all(size),
    });
    try {
      const { uri } = await view.export(socket, this.#options.signal);
      this.#held.exported = { view, uri };
    } catch (error) {
      await view.close();
      throw error;
    }
  }

  /** The backup of this origin; call `begin()` of it, then `passNotices()`. */
  run(beginning: Beginning): RunningBackup {
    const { latencyGoal, maxDelay, holdTimeout, stallTimeout, order } = this.#options;
    const list = this.#used?.list ?? this.#resources.list;
    return new RunningBackup({
      ...this.#resources,
      first: copiedFirst(order, this.#resources, list, this.spec),
      ...this.#used,
      ...this.#instant,
      ...beginning,
      spec: this.spec,
      latencyGoal,
      origin: this.plan.origin,
      watermarks: this.#watermarks,
      maxDelay,
      holdTimeout,
      stallTimeout,
    });
  }

  /** What the copy threads said before there was a backup to take it, and what they say from now on. */
  passNotices(backup: RunningBackup): void {
    this.#notices.pass((notice) => backup.notice(notice));
  }

  /** Gives back all that is open. */
  async release(): Promise<void> {
    await release(this.#held);
  }

  get #resources(): Resources {
    return this.#held as Resources;
  }

  #checkedList(): BlockList {
    const { blockSize } = this.#options;
    const { blocks } = this.plan;
    const { minBlockSize, maxBlockSize, size } = this.#info;
    if (blockSize < minBlockSize || blockSize > maxBlockSize) {
      throw new RangeError(
        `options.blockSize must be from ${minBlockSize} to ${maxBlockSize} for this driver, not ${blockSize}`,
      );
    }
    const list = blocks instanceof BlockList ? blocks : BlockList.all(size);
    if (list.end > size) {
      throw new RangeError(
        `options.blocks must end at or before the end of the origin (${size} bytes), not at ${list.end}`,
      );
    }
    return list.alignTo(blockSize, size);
  }
}

/** @throws SnapbakError `ERR_SNAPBAK_ABORTED` */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal.reason);
}
