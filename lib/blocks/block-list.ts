/**
 * The block list: which bytes of an origin a backup is about. Compiled before
 * the session starts; the addon turns it into pending bits.
 */
import { assertBytes, assertExtent, type Extent, show } from '../extent.js';
import type { Origin } from '../origin.js';
import {
  align,
  type Boundaries,
  combine,
  cover,
  DIFFERENCE,
  INTERSECTION,
  passed,
  UNION,
} from './boundaries.js';
import { formatBlockListText, parseBlockListText, readBlockListFile } from './text.js';

/**
 * An immutable set of bytes of a device, as sorted runs that neither overlap
 * nor touch. Its cost is 16 bytes a run, whatever the size of the device; all
 * operations take time linear in the runs.
 *
 * @example
 * const list = BlockList.all(64 * 2 ** 40).subtract(BlockList.extents([{ offset: 0, length: 4096 }]));
 * for (const { offset, length } of list) console.log(offset, length);
 */
export class BlockList {
  readonly #boundaries: Boundaries;

  private constructor(boundaries: Boundaries) {
    this.#boundaries = boundaries;
  }

  /**
   * Everything from 0 to `size` bytes.
   *
   * @throws TypeError or RangeError if `size` is no number of bytes
   */
  static all(size: number): BlockList {
    assertBytes('size', size);
    return new BlockList(size === 0 ? new Float64Array() : Float64Array.of(0, size));
  }

  /**
   * The union of extents, in any order; they may overlap, and empty ones count
   * for nothing.
   *
   * @throws TypeError or RangeError that names the extent which is none
   */
  static extents(extents: Iterable<Extent>): BlockList {
    if (typeof (extents as Partial<Iterable<Extent>> | null)?.[Symbol.iterator] !== 'function') {
      throw new TypeError(`extents must be an iterable of { offset, length }, got ${show(extents)}`);
    }
    const list = Array.isArray(extents) ? (extents as Extent[]) : Array.from(extents);
    const starts = new Float64Array(list.length);
    const ends = new Float64Array(list.length);
    let used = 0;
    for (let i = 0; i < list.length; i++) {
      const extent = list[i]!;
      // the name is put together only for the one that fails
      if (!isExtent(extent)) assertExtent(`extents[${i}]`, extent);
      if (extent.length === 0) continue;
      starts[used] = extent.offset;
      ends[used++] = extent.offset + extent.length;
    }
    return new BlockList(cover(starts.subarray(0, used), ends.subarray(0, used)));
  }

  /**
   * A list as text: one `START LENGTH` a line, in bytes, or with a unit as in
   * `64K`. `#` begins a comment; blank lines count for nothing.
   *
   * @param path how the text is called in errors
   * @throws SnapbakError ERR_SNAPBAK_BLOCK_LIST with the path and the line
   * @example
   * BlockList.parse('0 1M  # boot\n1G 512M\n')
   */
  static parse(text: string, path?: string): BlockList {
    if (typeof text !== 'string') throw new TypeError(`text must be a string, got ${show(text)}`);
    return BlockList.extents(parseBlockListText(text, path));
  }

  /**
   * A list from a text file; see {@link BlockList.parse}.
   *
   * @throws SnapbakError ERR_SNAPBAK_BLOCK_LIST if the file cannot be read, is
   *   above 256 MiB, or has a line that is not well formed
   */
  static async fromFile(path: string): Promise<BlockList> {
    if (typeof path !== 'string') throw new TypeError(`path must be a string, got ${show(path)}`);
    return BlockList.parse(await readBlockListFile(path), path);
  }

  /**
   * The blocks that the file systems on an origin use, as of now: right for a backup
   * of an origin that nobody writes to. For one that is in use, leave `blocks` of
   * `startBackup` at its default, which takes the list of the start instant.
   * `usedBlocks()` gives the same list, and tells what was found.
   *
   * @param origin of `openOrigin` or `openEmbedded`, or the path of an image
   * @throws what `usedBlocks()` throws
   * @example
   * const list = await BlockList.used(origin);
   * await startBackup({ origin, target, blocks: list.subtract(scratch) });
   */
  static async used(origin: Origin | string): Promise<BlockList> {
    // loaded when it is asked for: a list itself needs nothing of it
    const { usedBlocks } = await import('./used/used-blocks.js');
    return (await usedBlocks(origin)).list;
  }

  /** Bytes in either list. */
  union(other: BlockList): BlockList {
    return this.#combine(other, UNION);
  }

  /** Bytes in both lists. */
  intersect(other: BlockList): BlockList {
    return this.#combine(other, INTERSECTION);
  }

  /** Bytes of this list that are not in the other. */
  subtract(other: BlockList): BlockList {
    return this.#combine(other, DIFFERENCE);
  }

  /**
   * Widened to whole blocks and cut at the end of the device, so that the last
   * block may be shorter.
   *
   * @param blockSize bytes
   * @param size bytes of the device
   */
  alignTo(blockSize: number, size: number): BlockList {
    assertBytes('blockSize', blockSize, 1);
    assertBytes('size', size);
    return new BlockList(align(this.#boundaries, blockSize, size));
  }

  /**
   * How many blocks the list touches; those that begin at or beyond `size` do
   * not count.
   */
  count(blockSize: number, size?: number): number {
    assertBytes('blockSize', blockSize, 1);
    if (size !== undefined) assertBytes('size', size);
    const limit = size === undefined ? Infinity : Math.ceil(size / blockSize);
    const a = this.#boundaries;
    let blocks = 0;
    let counted = 0; // blocks below this one are counted
    for (let i = 0; i < a.length; i += 2) {
      const first = Math.max(Math.floor(a[i]! / blockSize), counted);
      const end = Math.min(Math.ceil(a[i + 1]! / blockSize), limit);
      if (end <= first) continue;
      blocks += end - first;
      counted = end;
    }
    return blocks;
  }

  /** Bytes in the list. */
  get bytes(): number {
    const a = this.#boundaries;
    let sum = 0;
    for (let i = 0; i < a.length; i += 2) sum += a[i + 1]! - a[i]!;
    return sum;
  }

  /** How many runs it takes. */
  get runs(): number {
    return this.#boundaries.length / 2;
  }

  /** The first byte behind the last run; 0 for an empty list. */
  get end(): number {
    return this.#boundaries.at(-1) ?? 0;
  }

  /** Whether the byte at `offset` is in the list. */
  contains(offset: number): boolean {
    assertBytes('offset', offset);
    return (passed(this.#boundaries, offset) & 1) === 1;
  }

  /** The runs, ascending. */
  *[Symbol.iterator](): Iterator<Extent> {
    const a = this.#boundaries;
    for (let i = 0; i < a.length; i += 2) yield { offset: a[i]!, length: a[i + 1]! - a[i]! };
  }

  /** Offset, length, offset, length, … of the runs, ascending; a copy. */
  flat(): Float64Array {
    const flat = this.#boundaries.slice();
    for (let i = 0; i < flat.length; i += 2) flat[i + 1]! -= flat[i]!;
    return flat;
  }

  /** The text that {@link BlockList.parse} reads, in plain bytes. */
  toText(): string {
    return formatBlockListText(this.flat());
  }

  #combine(other: BlockList, table: number): BlockList {
    if (!(other instanceof BlockList)) throw new TypeError(`other must be a BlockList, got ${show(other)}`);
    return new BlockList(combine(this.#boundaries, other.#boundaries, table));
  }
}

function isExtent(value: Extent | null | undefined): boolean {
  if (value === null || value === undefined) return false;
  const { offset, length } = value;
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(length) &&
    offset >= 0 &&
    length >= 0 &&
    Number.isSafeInteger(offset + length)
  );
}
