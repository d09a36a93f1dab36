/** What xfs_db and xfs_logprint say, taken strictly: what is not understood throws. */

/** `name = value` lines of xfs_db's `print`; `name[0-9] = …` too. */
export type Fields = Map<string, string>;

/** Splits the printed structures: each begins with its magicnum. */
export function parseStructures(lines: Iterable<string>): Fields[] {
  const structures: Fields[] = [];
  for (const line of lines) {
    const match = /^([a-z_0-9]+(?:\[[0-9-]+\])?) = (.*)$/.exec(line);
    if (match === null) throw new Error(`xfs_db says ${JSON.stringify(line.slice(0, 80))}`);
    if (match[1] === 'magicnum') structures.push(new Map());
    structures.at(-1)?.set(match[1]!, match[2]!);
  }
  return structures;
}

/** An integer of a structure. */
export function numberOf(fields: Fields, name: string): number {
  const text = fields.get(name);
  const value = text !== undefined && /^(0x[0-9a-f]+|\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Error(`xfs_db shows no ${name}`);
  return value;
}

export interface FreeRun {
  group: number;
  block: number;
  blocks: number;
}

/**
 * A line of `freesp -d`: the group, the block in it, how many. Undefined for the
 * heading and for the histogram behind the dump (five columns).
 */
export function parseFreeRun(line: string): FreeRun | undefined {
  const words = line.trim().split(/\s+/);
  if (words.length !== 3 || words[0] === 'agno') return undefined;
  const [group, block, blocks] = words.map((word) => (/^\d+$/.test(word) ? Number(word) : Number.NaN));
  if (![group, block, blocks].every(Number.isSafeInteger)) {
    throw new Error(`xfs_db says ${JSON.stringify(line.slice(0, 80))}`);
  }
  return { group: group!, block: block!, blocks: blocks! };
}

/** Lines of `xfs_logprint -t` that say nothing of what is logged, or only how much of it there is. */
const FRAME =
  /^(xfs_logprint:|\s+(data|log) device: 0x[0-9a-f]+( daddr: \d+ length: \d+)?|LOG REC AT LSN cycle \d+ block \d+ \(.*\)|=+|TRANS: tid:\S+ +#items:\d+ .*|BUF: cnt:2 total:2 a:.*)$/;

/** Reads `xfs_logprint -t`: what a mount would recover. */
export class LogReader {
  /** Of each line that tells what state the log is in. */
  readonly #states: string[] = [];
  /** Buffers that are the first superblock, and the lines that call them so. */
  #superblocks = 0;
  #called = 0;
  #other = false;

  /** @param sectorSize bytes; the superblock is one sector */
  constructor(readonly sectorSize: number) {}

  line(text: string): void {
    const state = /^\s+log tail: \d+ head: \d+ state: <([A-Z]+)>$/.exec(text)?.[1];
    const buffer =
      /^\tBUF: +#regs:2 +start blkno:(0x[0-9a-f]+) +len:(\d+) +bmap size:1 +flags:0x[0-9a-f]+$/.exec(text);
    if (state !== undefined) this.#states.push(state);
    else if (buffer !== null) {
      if (Number(buffer[1]) === 0 && Number(buffer[2]) * 512 === this.sectorSize) this.#superblocks++;
      else this.#other = true;
    } else if (/^\tSUPER Block Buffer: *$/.test(text)) this.#called++;
    else if (text.trim() !== '' && !FRAME.test(text.trimEnd())) this.#other = true;
  }

  /** Nothing is in it, or nothing but the superblock. */
  get settled(): boolean {
    const [state, ...more] = this.#states;
    if (more.length > 0 || this.#other || this.#called !== this.#superblocks) return false;
    return state === 'CLEAN' ? this.#superblocks === 0 : state === 'DIRTY' && this.#superblocks > 0;
  }
}
