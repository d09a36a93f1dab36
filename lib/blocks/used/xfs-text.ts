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

/** Whether xfs_logprint -t says that nothing is in the log. */
export function isCleanLog(lines: string[]): boolean {
  const states = lines.flatMap((line) => /\bstate: <([A-Z]+)>/.exec(line)?.[1] ?? []);
  return states.length === 1 && states[0] === 'CLEAN';
}
