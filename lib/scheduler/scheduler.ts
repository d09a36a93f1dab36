/**
 * Says in which order, and how fast, the sweep copies pending blocks. Moves no
 * bytes: it hands out work in extents, a few times a second, and the copy
 * threads do it.
 *
 * The order: wanted blocks (a write is held for them; the copy threads take
 * them on their own, before everything here), prioritised extents as they
 * came, hints of other processes (the newest first, with a bounded share), then
 * the block list: what is to come first of it, then all of it ascending. When the
 * list is through and blocks are still pending, it starts over, ascending;
 * handing out a block twice is harmless.
 *
 * The rate counts the pending bytes handed out here; what is safe already
 * costs nothing. Captures and wanted blocks are the writers' doing and are
 * never limited: to slow them would slow writers.
 */
import type { BlockList } from '../blocks/block-list.js';
import type { Extent } from '../extent.js';
import { type Clock, systemClock } from './clock.js';
import { Cursor } from './cursor.js';
import { Hints } from './hints.js';
import { TokenBucket } from './token-bucket.js';
import { Wishes } from './wishes.js';

/** How often a limited rate hands out work. */
export const TICK_MS = 100;
/** How much work, as time, waits for the copy threads where no rate is set; in bytes while their speed is not known. */
const UNLIMITED_MS = 250;
const UNLIMITED_FIRST = 16 * 2 ** 20;
const UNLIMITED_MIN = 2 ** 20;
const UNLIMITED_MAX = 2 ** 30;
/** Their speed is measured over at least this long: over a moment, one read would look like a fast device. */
const SPEED_MS = 50;
/** A limited rate hands out nothing while the copy threads are this far behind. */
const BEHIND_MS = 1000;
/** After the end of the block list, this long until it is gone through again. */
const AGAIN_MS = 1000;
/** Bytes that hints may have at once: what goes in about a second; the list waits no longer for its turn. */
const HINTS_MS = 1000;
/** Looks for pending blocks in a tick, so that a long run of safe ones is soon passed. */
const MAX_TURNS = 256;
/** Extents handed out at once, so that one turn of JavaScript stays short. */
const MAX_PIECES = 16_384;

export interface SchedulerOptions {
  blocks: BlockList;
  /** Of these, what comes first, in this order: whole blocks. Default: nothing. */
  first?: Iterable<Extent> | undefined;
  blockSize: number;
  /** Bytes of the device. */
  size: number;
  /** Bytes a second, or no limit. */
  rate?: number | undefined;
  /** Where work goes; `priority` goes before all work that is not. Returns the bytes of it that are pending. */
  push(work: Extent[], priority: boolean): number;
  /** Work that was handed out and not begun, bytes. */
  queuedBytes(): number;
  /** Listed blocks that are not safe yet. */
  pendingBlocks(): number;
  /** Where the first pending block from `offset` on lies; `end` if none does before it. Default: at `offset`. */
  nextPending?(offset: number, end: number): number;
  clock?: Clock;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #clock: Clock;
  readonly #blocks: BlockList;
  readonly #wishes: Wishes;
  readonly #hints: Hints;
  #list: Cursor;
  /** When the cursor came to the end of the list. */
  #endedAt: number | undefined;
  #rate: number | undefined;
  #bucket: TokenBucket | undefined;
  #state: 'new' | 'running' | 'paused' | 'stopped' = 'new';
  #cancelTimer: (() => void) | undefined;
  /** The copy threads asked for work and got none yet. */
  #needed = false;
  /** Pending bytes handed out, ever. */
  #charged = 0;
  /** Bytes handed out, ever. */
  #handedOut = 0;
  /** What the copy threads had done of these, and when. */
  #measured: { at: number; done: number } | undefined;
  /** Bytes a millisecond. */
  #speed: number | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#blocks = options.blocks.alignTo(options.blockSize, options.size);
    this.#wishes = new Wishes(this.#blocks, options.blockSize, options.size);
    const { blockSize, size, nextPending = (offset) => offset } = options;
    this.#hints = new Hints({ blockSize, size, nextPending });
    this.#list = new Cursor(inTurn(options.first ?? [], this.#blocks), options.blockSize);
    this.setRate(options.rate);
  }

  /** Begins to hand out work; the session is armed. */
  start(): void {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    this.#needed = true;
    this.#run();
  }

  /** The copy threads have little work left. */
  needWork(): void {
    this.#needed = true;
    if (this.#state === 'running' && this.#bucket === undefined) this.#run();
  }

  /**
   * These extents come next, after what was prioritised before; in the order
   * given, or ascending if there are more than 64 of them.
   *
   * @throws TypeError or RangeError for what is no extent of the device, or
   * if 100,000 runs wait already.
   */
  prioritize(extents: Iterable<Extent>): void {
    this.#wishes.add(extents);
    // at once where no rate is set: what is queued already goes behind
    if (this.#state === 'running' && this.#bucket === undefined) this.#handOutWishes(this.#unlimitedBudget());
  }

  /** Extents that other processes would have copied next, the oldest hint first. */
  hint(extents: Iterable<Extent>): void {
    this.#hints.add(extents);
    if (this.#state === 'running' && this.#bucket === undefined) this.#handOutHints(this.#unlimitedBudget());
  }

  /**
   * Bytes a second, or `undefined` for no limit. Work handed out before, at
   * most what the copy threads do in about half a second, is done first.
   */
  setRate(rate: number | undefined): void {
    if (rate === undefined) this.#bucket = undefined;
    else if (this.#bucket !== undefined) this.#bucket.setRate(rate, this.#clock.now());
    else this.#bucket = new TokenBucket(rate, this.#options.blockSize, this.#clock.now());
    this.#rate = rate;
    this.#needed = true; // a limited rate may have left the copy threads without work
    if (this.#state === 'running') this.#run();
  }

  pause(): void {
    if (this.#state !== 'running') return;
    this.#state = 'paused';
    this.#clearTimer();
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'running';
    this.#run();
  }

  /** Hands out nothing any more. */
  stop(): void {
    this.#state = 'stopped';
    this.#clearTimer();
  }

  #run(): void {
    this.#clearTimer();
    if (this.#bucket !== undefined) {
      this.#tick(this.#bucket);
      this.#timer(TICK_MS);
    } else if (this.#needed) {
      const budget = this.#unlimitedBudget() - this.#options.queuedBytes();
      if (this.#handOut(Math.max(this.#options.blockSize, budget)) === 0) this.#timer(AGAIN_MS);
    }
  }

  #tick(bucket: TokenBucket): void {
    const now = this.#clock.now();
    const budget = bucket.available(now);
    if (budget < this.#options.blockSize) return;
    const behind = Math.max(2 * this.#options.blockSize, ((this.#rate ?? 0) * BEHIND_MS) / 1000);
    if (this.#options.queuedBytes() >= behind) return;
    let left = budget;
    for (let turn = 0; turn < MAX_TURNS && left >= this.#options.blockSize; turn++) {
      const before = this.#charged;
      if (this.#handOut(left) === 0) break;
      left -= this.#charged - before;
    }
    bucket.take(budget - left);
  }

  /** Bytes handed out: wishes first, then hints, then the list, over again where need be. */
  #handOut(budget: number): number {
    let bytes = this.#handOutWishes(budget);
    if (this.#fits(budget - bytes, bytes)) bytes += this.#handOutHints(budget - bytes);
    if (this.#fits(budget - bytes, bytes)) {
      const listed = this.#handOutList(budget - bytes);
      if (listed > 0) this.#hints.earn(listed);
      else this.#hints.forgive();
      bytes += listed > 0 ? listed : this.#handOutHints(budget - bytes);
    }
    if (bytes > 0) this.#needed = false;
    return bytes;
  }

  /** Bytes of it that are pending: what is safe is passed over. */
  #handOutHints(budget: number): number {
    const most = this.#rate === undefined ? (this.#unlimitedBudget() * HINTS_MS) / UNLIMITED_MS : this.#rate;
    const allowed = this.#hints.allowed(budget, Math.max(most, this.#options.blockSize));
    let bytes = 0;
    for (let turn = 0; turn < MAX_TURNS && this.#fits(allowed - bytes, bytes); turn++) {
      const piece = this.#hints.next(allowed - bytes);
      if (piece === undefined) break;
      bytes += this.#push([piece], true);
    }
    this.#hints.spend(bytes);
    return bytes;
  }

  #handOutWishes(budget: number): number {
    return this.#push(this.#cut(this.#wishes, budget), true);
  }

  #handOutList(budget: number): number {
    const bytes = this.#push(this.#cut(this.#list, budget), false);
    return bytes === 0 && this.#mayStartOver() ? this.#handOutList(budget) : bytes;
  }

  #cut(from: { next(budget: number): Extent | undefined }, budget: number): Extent[] {
    const work: Extent[] = [];
    let bytes = 0;
    while (work.length < MAX_PIECES && this.#fits(budget - bytes, bytes)) {
      const piece = from.next(budget - bytes);
      if (piece === undefined) break;
      work.push(piece);
      bytes += piece.length;
    }
    return work;
  }

  // Blocks may still be pending at the end of the list. Going through it again
  // costs the copy threads a look at the bitmap, but it must not be a loop.
  #mayStartOver(): boolean {
    const now = this.#clock.now();
    this.#endedAt ??= now;
    if (now - this.#endedAt < AGAIN_MS || this.#options.pendingBlocks() === 0) return false;
    this.#endedAt = undefined;
    this.#list = new Cursor(this.#blocks, this.#options.blockSize);
    return true;
  }

  #push(work: Extent[], priority: boolean): number {
    if (work.length === 0) return 0;
    this.#charged += this.#options.push(work, priority);
    const bytes = work.reduce((sum, extent) => sum + extent.length, 0);
    this.#handedOut += bytes;
    return bytes;
  }

  // At least a block of budget, or the first piece of a hand-out.
  #fits(left: number, bytes: number): boolean {
    return bytes === 0 ? left > 0 : left >= this.#options.blockSize;
  }

  // As much as the copy threads did lately in a quarter of a second, so that a
  // new rate or a new wish acts within a second on slow devices too.
  #unlimitedBudget(): number {
    const at = this.#clock.now();
    const done = this.#handedOut - this.#options.queuedBytes();
    this.#measured ??= { at, done };
    const elapsed = at - this.#measured.at;
    if (elapsed >= SPEED_MS) {
      this.#speed = Math.max(0, done - this.#measured.done) / elapsed;
      this.#measured = { at, done };
    }
    if (this.#speed === undefined) return UNLIMITED_FIRST;
    return Math.min(UNLIMITED_MAX, Math.max(UNLIMITED_MIN, this.#speed * UNLIMITED_MS));
  }

  #timer(ms: number): void {
    this.#cancelTimer = this.#clock.after(ms, () => {
      this.#cancelTimer = undefined;
      if (this.#state === 'running') this.#run();
    });
  }

  #clearTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}

function* inTurn(...lists: Iterable<Extent>[]): Generator<Extent> {
  for (const list of lists) yield* list;
}
