/**
 * A picture of a backup: which parts of the device are listed, zero, invalid.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Manifest } from '../manifest.js';

export const MAP_COLUMNS = 64;
const MAX_ROWS = 8;
/** Rows are added while a cell would stand for more than this. */
const CELL_BYTES = 64 * 2 ** 20;
/** Checksums beyond this are not read for a picture. */
const MAX_CHECKSUMS = 256 * 2 ** 20;
const PIECE = 2 ** 20;

export const LEGEND =
  '█ data  ▒ data and zeroes, or listed in part  ░ zeroes (holes)  ! invalid  · not listed';

/** What is counted for the picture: bytes a cell. */
export interface MapCell {
  bytes: number;
  listed: number;
  zero: number;
  invalid: number;
}

export class BlockMap {
  readonly cells: MapCell[];
  readonly #size: number;

  constructor({ size, blocks, invalidBlocks }: Pick<Manifest, 'size' | 'blocks' | 'invalidBlocks'>) {
    this.#size = size;
    const rows = Math.min(MAX_ROWS, Math.max(1, Math.ceil(size / CELL_BYTES / MAP_COLUMNS)));
    const count = Math.max(1, Math.min(size, rows * MAP_COLUMNS));
    this.cells = Array.from({ length: count }, (_, i) => ({
      bytes: this.#edge(i + 1, count) - this.#edge(i, count),
      listed: 0,
      zero: 0,
      invalid: 0,
    }));
    for (const [offset, length] of blocks) this.#add(offset, length, 'listed');
    for (const [offset, length] of invalidBlocks) this.#add(offset, length, 'invalid');
  }

  /** A listed range that reads as zeroes. */
  addZero(offset: number, length: number): void {
    this.#add(offset, length, 'zero');
  }

  get zeroBytes(): number {
    return this.cells.reduce((sum, cell) => sum + cell.zero, 0);
  }

  /** Rows of characters; see {@link LEGEND}. */
  rows(): string[] {
    const text = this.cells.map(cellCharacter);
    const rows: string[] = [];
    for (let i = 0; i < text.length; i += MAP_COLUMNS) rows.push(text.slice(i, i + MAP_COLUMNS).join(''));
    return rows;
  }

  #edge(cell: number, count = this.cells.length): number {
    return Math.floor((this.#size / count) * cell);
  }

  #cellOf(offset: number): number {
    let cell = Math.min(this.cells.length - 1, Math.floor((offset / this.#size) * this.cells.length));
    while (cell > 0 && this.#edge(cell) > offset) cell--; // rounding
    while (cell < this.cells.length - 1 && this.#edge(cell + 1) <= offset) cell++;
    return cell;
  }

  #add(offset: number, length: number, what: 'listed' | 'zero' | 'invalid'): void {
    const end = Math.min(this.#size, offset + length);
    for (let at = offset; at < end; ) {
      const cell = this.#cellOf(at);
      const stop = cell === this.cells.length - 1 ? end : Math.min(end, this.#edge(cell + 1));
      this.cells[cell]![what] += stop - at;
      at = stop;
    }
  }
}

function cellCharacter({ bytes, listed, zero, invalid }: MapCell): string {
  if (invalid > 0) return '!';
  if (listed === 0) return '·';
  if (zero >= listed) return '░';
  return listed === bytes && zero === 0 ? '█' : '▒';
}

/**
 * Marks the blocks that are all zero, which their checksums tell.
 *
 * @param crc32c of bytes
 * @returns false if there are too many checksums to look at
 */
export async function markZeroes(
  map: BlockMap,
  { size, blockSize, blocks }: Manifest,
  checksums: FileHandle,
  crc32c: (data: Uint8Array) => number,
): Promise<boolean> {
  if (4 * Math.ceil(size / blockSize) > MAX_CHECKSUMS) return false;
  const whole = crc32c(new Uint8Array(blockSize));
  const last = crc32c(new Uint8Array(size % blockSize === 0 ? blockSize : size % blockSize));
  const buffer = Buffer.alloc(PIECE);
  for (const [offset, length] of blocks) {
    const first = Math.floor(offset / blockSize);
    const end = Math.ceil((offset + length) / blockSize);
    for (let block = first; block < end; ) {
      const want = Math.min(PIECE, 4 * (end - block));
      const { bytesRead } = await checksums.read(buffer, 0, want, 4 * block);
      const count = Math.floor(bytesRead / 4);
      if (count === 0) return true; // cut off: `verify` is who judges that
      for (let i = 0; i < count; i++, block++) {
        const at = block * blockSize;
        const bytes = Math.min(blockSize, size - at);
        if (buffer.readUInt32LE(4 * i) === (bytes === blockSize ? whole : last)) map.addZero(at, bytes);
      }
    }
  }
  return true;
}
