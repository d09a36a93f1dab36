/**
 * Prioritised extents that wait: first come, first served, cut down to the
 * block list so that a wish costs nothing for what is not in the backup.
 */
import { BlockList } from '../blocks/block-list.js';
import { assertExtent, type Extent, show } from '../extent.js';
import { Cursor } from './cursor.js';

/** Runs that may wait; more is a mistake of the caller. */
export const MAX_WAITING = 100_000;
/** Up to so many extents of one call keep their order; the work of a call stays linear. */
const KEEP_ORDER = 64;

export class Wishes {
  readonly #list: BlockList;
  readonly #blockSize: number;
  readonly #size: number;
  #waiting: BlockList[] = [];
  #runs = 0;
  #cursor: Cursor | undefined;

  /** @param list aligned to blocks. */
  constructor(list: BlockList, blockSize: number, size: number) {
    this.#list = list;
    this.#blockSize = blockSize;
    this.#size = size;
  }

  /**
   * @throws TypeError or RangeError for what is no extent of the device, or if
   * too many wait; then none of them was taken.
   */
  add(extents: Iterable<Extent>): void {
    if (typeof (extents as Partial<Iterable<Extent>> | null)?.[Symbol.iterator] !== 'function') {
      throw new TypeError(`extents must be an iterable of { offset, length }, not ${show(extents)}`);
    }
    const given = [...extents];
    for (const [i, extent] of given.entries()) {
      assertExtent(`extents[${i}]`, extent);
      if (extent.offset + extent.length > this.#size) {
        throw new RangeError(
          `extents[${i}] must end at or before the end of the device (${this.#size} bytes), ` +
            `not at ${extent.offset + extent.length}`,
        );
      }
    }
    const lists = given.length > KEEP_ORDER ? [given] : given.map((extent) => [extent]);
    const added = lists
      .map((list) => BlockList.extents(list).alignTo(this.#blockSize, this.#size).intersect(this.#list))
      .filter((list) => list.runs > 0);
    const runs = added.reduce((sum, list) => sum + list.runs, 0);
    if (this.#waiting.length > 0 && this.#runs + runs > MAX_WAITING) {
      throw new RangeError(`more than ${MAX_WAITING} prioritised extents wait; merge them, or wait`);
    }
    this.#waiting.push(...added);
    this.#runs += runs;
  }

  /** The next piece, as {@link Cursor.next}. */
  next(budget: number): Extent | undefined {
    for (;;) {
      const piece = this.#cursor?.next(budget);
      if (piece !== undefined) return piece;
      const list = this.#waiting.shift();
      if (list === undefined) {
        this.#cursor = undefined;
        return undefined;
      }
      this.#runs -= list.runs;
      this.#cursor = new Cursor(list, this.#blockSize);
    }
  }
}
