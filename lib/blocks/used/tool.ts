/** Runs the own tools of file systems, which only read, and hands out what they say line by line. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { findProgram } from '../../find-program.js';

/** Runs `name` to its end and gives each line of its standard output to `line`. */
export type RunTool = (name: string, args: string[], line: (text: string) => void) => Promise<void>;

const MAX_SAID = 400;

/** Rejects, in words that a reason can quote, if the program is not there, fails, or `line` throws. */
export const runTool: RunTool = async (name, args, line) => {
  const program = findProgram(name);
  if (program === undefined) throw new Error(`${name} is not installed`);
  const child = spawn(program, args, {
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  ended.catch(() => {});
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < MAX_SAID) said += text;
  });
  try {
    for await (const text of createInterface({ input: child.stdout })) line(text);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  const [code, signal] = (await ended) as [number | null, string | null];
  if (code === 0) return;
  const why = said.trim().split('\n').at(-1)?.slice(0, MAX_SAID) ?? '';
  throw new Error(`${name} ended with ${signal ?? `exit status ${code}`}${why === '' ? '' : `: ${why}`}`);
};

/** All lines of a tool that says little. */
export async function linesOf(run: RunTool, name: string, args: string[]): Promise<string[]> {
  const lines: string[] = [];
  await run(name, args, (text) => {
    if (lines.length >= 100_000) throw new Error(`${name} says more than it should`);
    lines.push(text);
  });
  return lines;
}
