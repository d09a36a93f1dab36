/**
 * The options of `startBackup`, checked before anything is opened or made.
 */
import { expectInteger, expectMethod, expectOneOf, expectOptions, expectType } from '../arguments.js';
import type { BlockList } from '../blocks/block-list.js';
import type { Container } from '../container/container.js';
import type { Watermarks } from '../container/watermarks.js';
import { show } from '../extent.js';
import type { Origin } from '../origin.js';
import type { LatencyGoal } from '../scheduler/governor.js';
import { checkedSocket } from '../serve/paths.js';
import type { CustomTarget } from '../target/custom-target.js';
import type { BackupTarget } from '../target/target.js';
import { targetFrom } from '../target/target-from.js';
import type { CloneOptions } from './clone-options.js';
import type { AfterThaw, BeforeFreeze } from './hooks.js';
import type { SweepOrder } from './order.js';
import { checkPlans, type DiskPlan, type OriginPlan } from './plans.js';

/** What to back up, where to, and what to give up first when it gets tight. */
export interface BackupOptions {
  /** The device under backup, of `openOrigin` or `openEmbedded`. Either this or `origins`. */
  origin?: Origin;
  /**
   * Several devices under backup, as of one and the same instant, in one backup:
   * what an application wrote to one of them after it had written to another is
   * never in the backup without the other. With all of them the drivers may
   * differ. A device whose part breaks ends no other's.
   */
  origins?: readonly (Origin | OriginPlan)[];
  /**
   * Where the backup goes: `directoryTarget`, `deviceTarget`, or an object of
   * your own with `write`, `flush` and `close`. Of several origins:
   * `directoryTarget`.
   */
  target: BackupTarget | CustomTarget;
  /**
   * What is in the backup. `used` (default): what its file systems use as of the
   * start instant, found out before the sweep begins, and all of what is not
   * ext2/3/4, xfs, btrfs or swap, or cannot be read with certainty; the event
   * `blocks` tells what was found, and why something is listed in full. `all`: all
   * of the origin, read by nobody before. With `origins`: of those that name none
   * of their own; then no list.
   */
  blocks?: BlockList | 'used' | 'all';
  /**
   * Where captured blocks wait for the target; a list: in order of preference,
   * as `tieredContainer` makes it. Default: memory, a 64th of the origin, 4 to 64 MiB.
   * Of several origins each has its own; see {@link OriginPlan}.
   */
  container?: Container | readonly Container[];
  /** Unit of tracking in bytes: a power of two from 4 KiB to 1 MiB. Default: 64 KiB. */
  blockSize?: number;
  /**
   * `ascending` (default), or `hot-first`: what was written most lately, by the
   * driver's own account since it has the origin, is copied first, so that
   * fewer writes need a capture. What is asked for by `prioritize()` or a hint
   * goes before either.
   */
  order?: SweepOrder;
  /**
   * The most that the sweep copies, bytes a second, of all origins together.
   * Default: no limit. What writers cause (captures and wanted blocks) is copied as fast as the
   * target takes it, whatever the rate: to slow that would slow writers.
   */
  rate?: number | undefined;
  /**
   * The mean time in milliseconds, from 0.01 to 60,000, that requests of the
   * application should take at most: above it, the sweep is slowed down, to a
   * twentieth of its speed if it must be. `auto` (default): twice what they take
   * without the sweep, which is measured. `none`: never slowed down.
   */
  latencyGoal?: LatencyGoal;
  /** Fill levels of the slots at which policies begin. Default: low 0.5, high and drainTo 0.75, full 1. */
  watermarks?: Watermarks;
  /**
   * The longest that a write which needs a capture is delayed between the
   * watermarks `high` and `full`, milliseconds from 0 (never) to 1000.
   * Default: 1000. Other writes are never delayed.
   */
  maxDelay?: number;
  /**
   * The longest that a write is held when the container is full, milliseconds
   * from 1 to 86,400,000. Default: 30,000. What happens then is `onFull`.
   */
  holdTimeout?: number;
  /**
   * `break` (default): a hold past its time breaks the backup, and the write
   * goes on. `hold`: keep holding while this process lives.
   */
  onFull?: 'break' | 'hold';
  /**
   * While writes are held and nothing at all was drained for so long, this
   * process counts as dead: the backup breaks and the writes go on, whatever
   * `onFull` says. Milliseconds from 1 to 86,400,000, 0 for never. Default: 60,000.
   */
  stallTimeout?: number;
  /**
   * How long the start may wait for writes in flight, milliseconds from 1 to
   * 600,000. Default: 10,000.
   */
  startTimeout?: number;
  /**
   * Path of a Unix socket at which NBD clients can read the origin as of the
   * start instant while the backup runs, as by `PointInTimeView.export`. It ends
   * with the backup; a view of your own lasts as long as you want.
   */
  export?: string;
  /**
   * A second device that gets every block as it is backed up, and can be used by
   * NBD clients from the first moment: `Backup.clone`. If it fails, the backup
   * goes on without it. Not with `origins`.
   */
  clone?: CloneOptions;
  /**
   * Brings the application to rest. Called when everything is checked, opened
   * and prepared, just before the start; what the application has written until
   * it returns is in the backup. If it fails or takes too long, nothing is started.
   */
  beforeFreeze?: BeforeFreeze;
  /**
   * Lets the application go on. Called as soon as the start has ended, well or
   * not, and also when `beforeFreeze` failed. The backup does not wait for it
   * before its own end; its failure is a `hook` event and spoils nothing.
   */
  afterThaw?: AfterThaw;
  /**
   * How long each of the two may take, milliseconds from 1 to 600,000. Default:
   * 30,000. Then its `signal` aborts, and five seconds later it is waited for no more.
   */
  hookTimeout?: number;
  /** Aborts the backup, at any stage. */
  signal?: AbortSignal;
}

/** The same, with the defaults that need no origin. */
export interface CheckedOptions {
  /** One for each origin. */
  disks: readonly DiskPlan[];
  /** It was made with `origins`. */
  several: boolean;
  target: BackupTarget;
  blockSize: number;
  order: SweepOrder;
  rate: number | undefined;
  latencyGoal: LatencyGoal;
  watermarks: Watermarks | undefined;
  maxDelay: number;
  holdTimeout: number;
  onFull: 'break' | 'hold';
  stallTimeout: number;
  startTimeout: number;
  export: string | undefined;
  beforeFreeze: BeforeFreeze | undefined;
  afterThaw: AfterThaw | undefined;
  hookTimeout: number;
  signal: AbortSignal | undefined;
}

/**
 * Slots' memory where no container is given: a 64th of the origin, 4 to 64 MiB.
 * Making memory present costs time before the start, and a small disk is copied
 * before it could fill more.
 */
export function defaultContainerBytes(size: number): number {
  return Math.min(64 * 2 ** 20, Math.max(4 * 2 ** 20, Math.ceil(size / 64)));
}

const KNOWN = [
  'origin',
  'origins',
  'target',
  'blocks',
  'container',
  'blockSize',
  'order',
  'rate',
  'latencyGoal',
  'watermarks',
  'maxDelay',
  'holdTimeout',
  'onFull',
  'stallTimeout',
  'startTimeout',
  'export',
  'clone',
  'beforeFreeze',
  'afterThaw',
  'hookTimeout',
  'signal',
];

/** @throws TypeError or RangeError that names the option and the value. */
export function checkOptions(options: BackupOptions): CheckedOptions {
  expectOptions('options', options, KNOWN);
  const { blockSize = 65_536, latencyGoal = 'auto', maxDelay = 1000, startTimeout = 10_000 } = options;
  const { holdTimeout = 30_000, onFull = 'break', stallTimeout = 60_000 } = options;
  const { beforeFreeze, afterThaw, hookTimeout = 30_000, order = 'ascending' } = options;
  const disks = checkPlans(options);
  const target = targetFrom(options.target);
  if (options.origins !== undefined && target.prepareGroup === undefined) {
    throw new TypeError(
      `options.target must be made by directoryTarget() with options.origins, not ${target.description}`,
    );
  }
  expectInteger('options.blockSize', blockSize, 4096, 2 ** 20);
  if (!Number.isInteger(Math.log2(blockSize))) {
    throw new RangeError(`options.blockSize must be a power of two, not ${blockSize}`);
  }
  expectOneOf('options.order', order, ['ascending', 'hot-first']);
  checkRate('options.rate', options.rate);
  checkLatencyGoal('options.latencyGoal', latencyGoal);
  expectInteger('options.maxDelay', maxDelay, 0, 1000);
  expectInteger('options.holdTimeout', holdTimeout, 1, 86_400_000);
  expectOneOf('options.onFull', onFull, ['break', 'hold']);
  expectInteger('options.stallTimeout', stallTimeout, 0, 86_400_000);
  expectInteger('options.startTimeout', startTimeout, 1, 600_000);
  if (beforeFreeze !== undefined) expectType('options.beforeFreeze', beforeFreeze, 'function');
  if (afterThaw !== undefined) expectType('options.afterThaw', afterThaw, 'function');
  expectInteger('options.hookTimeout', hookTimeout, 1, 600_000);
  if (options.signal !== undefined) {
    expectMethod('options.signal', options.signal, 'addEventListener', 'an AbortSignal');
  }
  return {
    disks,
    several: options.origins !== undefined,
    target,
    blockSize,
    order,
    rate: options.rate,
    latencyGoal,
    watermarks: options.watermarks,
    maxDelay,
    holdTimeout,
    onFull,
    stallTimeout,
    startTimeout,
    export: options.export === undefined ? undefined : checkedSocket('options.export', options.export),
    beforeFreeze,
    afterThaw,
    hookTimeout,
    signal: options.signal,
  };
}

/** A rate is a whole number of bytes a second, or absent. */
export function checkRate(name: string, rate: unknown): void {
  if (rate !== undefined) expectInteger(name, rate, 1);
}

function checkLatencyGoal(name: string, goal: unknown): void {
  if (goal === 'auto' || goal === 'none') return;
  if (typeof goal !== 'number')
    throw new TypeError(`${name} must be a number, auto or none, not ${show(goal)}`);
  if (!(goal >= 0.01 && goal <= 60_000)) {
    throw new RangeError(`${name} must be from 0.01 to 60000 milliseconds, not ${goal}`);
  }
}
