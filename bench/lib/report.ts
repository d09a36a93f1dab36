/** What a run leaves behind: the goals as a table, and the whole of it as a file. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Goal } from './context.js';
import { table } from './table.js';

const RESULTS = fileURLToPath(new URL('../results', import.meta.url));

export function goalTable(goals: Goal[]): string {
  return table(
    ['goal', 'measured', 'wanted', ''],
    goals.map(({ what, measured, wanted, met }) => [what, measured, wanted, met ? 'met' : 'MISSED']),
  );
}

/** Writes the JSON of a run; gives its path from the root of the repository. */
export function keep(run: { facts: Record<string, unknown> } & Record<string, unknown>, kind = ''): string {
  mkdirSync(RESULTS, { recursive: true });
  const path = `${RESULTS}/${kind}${String(run.facts.time).replaceAll(':', '-')}.json`;
  writeFileSync(path, `${JSON.stringify(run, undefined, 2)}\n`);
  return `bench/results/${basename(path)}`;
}
