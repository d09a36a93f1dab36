/**
 * What other processes would have copied next: a bounded heap of extents of
 * which the newest goes first, and the share of the sweep that they may have.
 * They are advice of strangers: whatever they ask for, and however much, the
 * block list gets its share, and what is safe already costs nothing.
 */
import type { Extent } from '../extent.js';

/** Hints that wait; the oldest give way. */
export const MAX_HINTS = 1024;
/** Bytes for hints, for each byte of the block list: a quarter of the sweep is always the list's. */
export const HINT_SHARE = 3;

export interface HintsOptions {
  blockSize: number;
  /** Bytes of the device. */
  size: number;
  /** Where the first pending block from `offset` on lies; `end` if none does before it. */
  nextPending(offset: number, end: number): number;
}

export class Hints {
  readonly #options: HintsOptions;
  /** The newest is last. */
  #waiting: { offset: number; end: number }[] = [];
  /** Bytes that hints may have before it is the list's turn; `limited` where it is used. */
  #credit = Number.POSITIVE_INFINITY;

  constructor(options: HintsOptions) {
    this.#options = options;
  }

  /** The oldest first; blocks that they touch, inside the device. */
  add(extents: Iterable<Extent>): void {
    const { blockSize, size } = this.#options;
    for (const { offset, length } of extents) {
      const end = Math.min(size, Math.ceil((offset + length) / blockSize) * blockSize);
      const from = Math.floor(offset / blockSize) * blockSize;
      if (length > 0 && from < end) this.#waiting.push({ offset: from, end });
    }
    if (this.#waiting.length > MAX_HINTS) this.#waiting.splice(0, this.#waiting.length - MAX_HINTS);
  }

  /** What hints may have now, of `budget` bytes; never more at once than `limit`. */
  allowed(budget: number, limit: number): number {
    this.#credit = Math.min(this.#credit, limit);
    return this.#waiting.length === 0 ? 0 : Math.min(budget, this.#credit);
  }

  /** Hints had so many bytes. */
  spend(bytes: number): void {
    this.#credit -= bytes;
  }

  /** The list had so many: hints may have a multiple of it. */
  earn(listBytes: number): void {
    this.#credit += HINT_SHARE * listBytes;
  }

  /** The list has nothing to be copied: there is nobody to share with. */
  forgive(): void {
    this.#credit = Number.POSITIVE_INFINITY;
  }

  /** The next piece: at most `budget` bytes, but at least one block, of which the first is pending. */
  next(budget: number): Extent | undefined {
    const { blockSize, nextPending } = this.#options;
    for (let hint = this.#waiting.at(-1); hint !== undefined; hint = this.#waiting.at(-1)) {
      const offset = nextPending(hint.offset, hint.end);
      const blocks = Math.max(1, Math.floor(budget / blockSize));
      const length = Math.min(blocks * blockSize, hint.end - offset);
      hint.offset = offset + Math.max(0, length);
      if (hint.offset >= hint.end) this.#waiting.pop();
      if (length > 0) return { offset, length };
    }
    return undefined;
  }
}
