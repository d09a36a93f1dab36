/**
 * The options of `startBackup`, checked before anything is opened or made.
 */
import { expectInteger, expectOneOf, expectOptions } from '../arguments.js';
import { BlockList } from '../blocks/block-list.js';
import type { Container } from '../container/container.js';
import type { Watermarks } from '../container/watermarks.js';
import { show } from '../extent.js';
import type { Origin } from '../origin.js';
import type { CustomTarget } from '../target/custom-target.js';
import type { BackupTarget } from '../target/target.js';
import { targetFrom } from '../target/target-from.js';

/** What to back up, where to, and what to give up first when it gets tight. */
export interface BackupOptions {
  /** The device under backup, of `openOrigin` or `openEmbedded`. */
  origin: Origin;
  /**
   * Where the backup goes: `directoryTarget`, `deviceTarget`, or an object of
   * your own with `write`, `flush` and `close`.
   */
  target: BackupTarget | CustomTarget;
  /** What is in the backup. Default: all of the origin. */
  blocks?: BlockList;
  /** Where captured blocks wait for the target. Default: memory, a 64th of the origin, 4 to 64 MiB. */
  container?: Container;
  /** Unit of tracking in bytes: a power of two from 4 KiB to 1 MiB. Default: 64 KiB. */
  blockSize?: number;
  /**
   * The most that the sweep copies, bytes a second. Default: no limit. What
   * writers cause (captures and wanted blocks) is copied as fast as the
   * target takes it, whatever the rate: to slow that would slow writers.
   */
  rate?: number | undefined;
  /** Fill levels of the slots at which policies begin. Default: low 0.5, high 0.75, full 1. */
  watermarks?: Watermarks;
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
   * How long the start may wait for writes in flight, milliseconds from 1 to
   * 600,000. Default: 10,000.
   */
  startTimeout?: number;
  /** Aborts the backup, at any stage. */
  signal?: AbortSignal;
}

/** The same, with the defaults that need no origin. */
export interface CheckedOptions {
  origin: Origin;
  target: BackupTarget;
  blocks: BlockList | undefined;
  container: Container | undefined;
  blockSize: number;
  rate: number | undefined;
  watermarks: Watermarks | undefined;
  holdTimeout: number;
  onFull: 'break' | 'hold';
  startTimeout: number;
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
  'target',
  'blocks',
  'container',
  'blockSize',
  'rate',
  'watermarks',
  'holdTimeout',
  'onFull',
  'startTimeout',
  'signal',
];

/** @throws TypeError or RangeError that names the option and the value. */
export function checkOptions(options: BackupOptions): CheckedOptions {
  expectOptions('options', options, KNOWN);
  const { blockSize = 65_536, holdTimeout = 30_000, onFull = 'break', startTimeout = 10_000 } = options;
  expectMethod('options.origin', options.origin, 'createSession', 'an origin, of openOrigin or openEmbedded');
  const target = targetFrom(options.target);
  if (options.container !== undefined) {
    expectMethod('options.container', options.container, 'open', 'a container, e.g. memoryContainer(bytes)');
  }
  if (options.blocks !== undefined && !(options.blocks instanceof BlockList)) {
    throw new TypeError(`options.blocks must be a BlockList, not ${show(options.blocks)}`);
  }
  expectInteger('options.blockSize', blockSize, 4096, 2 ** 20);
  if (!Number.isInteger(Math.log2(blockSize))) {
    throw new RangeError(`options.blockSize must be a power of two, not ${blockSize}`);
  }
  checkRate('options.rate', options.rate);
  expectInteger('options.holdTimeout', holdTimeout, 1, 86_400_000);
  expectOneOf('options.onFull', onFull, ['break', 'hold']);
  expectInteger('options.startTimeout', startTimeout, 1, 600_000);
  if (options.signal !== undefined) {
    expectMethod('options.signal', options.signal, 'addEventListener', 'an AbortSignal');
  }
  return {
    origin: options.origin,
    target,
    blocks: options.blocks,
    container: options.container,
    blockSize,
    rate: options.rate,
    watermarks: options.watermarks,
    holdTimeout,
    onFull,
    startTimeout,
    signal: options.signal,
  };
}

/** A rate is a whole number of bytes a second, or absent. */
export function checkRate(name: string, rate: unknown): void {
  if (rate !== undefined) expectInteger(name, rate, 1);
}

function expectMethod(name: string, value: unknown, method: string, what: string): void {
  const found = (value as Record<string, unknown> | null | undefined)?.[method];
  if (typeof found !== 'function') throw new TypeError(`${name} must be ${what}, not ${show(value)}`);
}
