/**
 * Runs spin on a model of docs/model: the model becomes a C program, which
 * searches every state there is. In a temporary folder, nothing is kept.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must, needPrograms, run } from '../helpers/programs.js';

const MODELS = fileURLToPath(new URL('../../docs/model', import.meta.url));

/** How deep and how large a search may become; beyond it fails, it is never cut short unseen. */
const DEPTH = 100_000;
const MEMORY_MIB = 3_000;

/** Safety: assertions, and waits without an end. Cycles: runs that go on for ever though every
 * process that could go on does (weak fairness). */
export type Search = 'safety' | 'cycles';

export interface Verdict {
  /** What was found wrong, in pan's words; undefined: nothing, in the whole state space. */
  error: string | undefined;
  /** States that were looked at. */
  states: number;
}

/** Searches the model as `defines` make it, up to the first error. */
export async function check(model: string, defines: string[], search: Search = 'safety'): Promise<Verdict> {
  needPrograms('spin', 'gcc');
  const folder = mkdtempSync(join(tmpdir(), 'snapbak-model-'));
  try {
    const options = defines.map((define) => `-D${define}`);
    await must('spin', ['-a', ...options, join(MODELS, model)], { cwd: folder });
    const how = search === 'safety' ? ['-DSAFETY'] : ['-DNP', '-DNFAIR=3'];
    const limits = [`-DMEMLIM=${MEMORY_MIB}`, '-DVECTORSZ=512'];
    await must('gcc', ['-O1', '-w', ...how, ...limits, '-o', 'pan', 'pan.c'], { cwd: folder });
    const depth = `-m${DEPTH}`;
    const args = search === 'safety' ? [depth] : [depth, '-l', '-f'];
    const { code, signal, stdout } = await run(join(folder, 'pan'), args, {
      cwd: folder,
      timeoutMs: 600_000,
    });
    return verdict(stdout, `${model} ${options.join(' ')}: exit status ${code ?? signal}\n${stdout}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function verdict(stdout: string, whole: string): Verdict {
  const errors = /, errors: (\d+)$/m.exec(stdout)?.[1];
  const states = /^\s*([\d.e+]+) states, stored/m.exec(stdout)?.[1];
  assert.ok(errors !== undefined && states !== undefined, `the search did not come to its end: ${whole}`);
  assert.doesNotMatch(stdout, /max search depth too small|out of memory|reached -DMEMLIM/, whole);
  const error = /^pan:\d+: (.*?)(?: \(at depth \d+\))?$/m.exec(stdout)?.[1];
  assert.equal(error === undefined, errors === '0', whole);
  if (error === undefined) assert.doesNotMatch(stdout, /Search not completed/, whole);
  return { error, states: Number(states) };
}

/** Every state was looked at, and nothing is wrong. */
export async function holds(model: string, defines: string[], search: Search = 'safety'): Promise<void> {
  const { error, states } = await check(model, defines, search);
  assert.equal(error, undefined);
  assert.ok(states > 50, `only ${states} states: the model does not run`);
}

/** The search finds this, and finds it first. */
export async function fails(model: string, defines: string[], why: string | RegExp): Promise<void> {
  const { error } = await check(model, defines);
  assert.ok(error !== undefined, `${defines.join(' ')} breaks a rule, and the search found nothing wrong`);
  if (typeof why === 'string') assert.equal(error, why);
  else assert.match(error, why);
}

/** What spin says when a process waits for something that never comes. */
export const WAITS_FOR_EVER = 'invalid end state';
export const violates = (assertion: string): string => `assertion violated ${assertion}`;
