/**
 * A place in a list of extents, from which work is cut in pieces of whole
 * blocks.
 */
import type { Extent } from '../extent.js';

export class Cursor {
  readonly #extents: Iterator<Extent>;
  readonly #blockSize: number;
  #offset = 0;
  #end = 0;

  /** Extents are aligned to blocks already; only the device's last may be shorter. */
  constructor(extents: Iterable<Extent>, blockSize: number) {
    this.#extents = extents[Symbol.iterator]();
    this.#blockSize = blockSize;
  }

  /** The next piece: at most `budget` bytes, but at least one block; nothing at the end of the list. */
  next(budget: number): Extent | undefined {
    while (this.#offset >= this.#end) {
      const step = this.#extents.next();
      if (step.done) return undefined;
      this.#offset = step.value.offset;
      this.#end = this.#offset + step.value.length;
    }
    const blocks = Math.max(1, Math.floor(budget / this.#blockSize));
    const offset = this.#offset;
    const length = Math.min(blocks * this.#blockSize, this.#end - offset);
    this.#offset = offset + length;
    return { offset, length };
  }
}
