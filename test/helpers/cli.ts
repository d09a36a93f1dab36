/**
 * The command line program as its users and scripts run it: the compiled one
 * where it is up to date (it starts three times as fast), else the sources.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ended, type Result, type RunOptions, start } from './programs.js';

const LIB = fileURLToPath(new URL('../../lib', import.meta.url));
const MAIN = join(LIB, 'cli/main.ts');
const COMPILED = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

/** What node is started with. */
const PROGRAM = compiledIsCurrent() ? [COMPILED] : ['--import', TSX, MAIN];

function compiledIsCurrent(): boolean {
  if (!existsSync(COMPILED)) return false;
  const built = statSync(COMPILED).mtimeMs;
  const sources = readdirSync(LIB, { recursive: true, encoding: 'utf8' });
  return sources.every((name) => statSync(join(LIB, name)).mtimeMs <= built);
}

/** One line of `--json`. */
export interface CliEvent {
  event: string;
  [field: string]: unknown;
}

export interface CliResult extends Result {
  /** The lines of standard output that are JSON objects. */
  events: CliEvent[];
}

/** A `snapbak` that runs. */
export class CliRun {
  readonly child: ChildProcess;
  /** What it has said so far with `--json`. */
  readonly events: CliEvent[] = [];
  /** Its end, whatever its exit status. */
  readonly finished: Promise<CliResult>;
  #waiting = new Set<() => void>();
  #done = false;

  /** @param script a TypeScript file to run instead, which speaks as `snapbak --json` does */
  constructor(args: string[], options: RunOptions & { script?: string } = {}) {
    const program = options.script === undefined ? PROGRAM : ['--import', TSX, options.script];
    this.child = start(process.execPath, [...program, ...args], options);
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      const event = parse(line);
      if (event === undefined) return;
      this.events.push(event);
      for (const look of this.#waiting) look();
    });
    const timer = setTimeout(() => this.child.kill('SIGKILL'), options.timeoutMs ?? 120_000);
    this.finished = ended(this.child)
      .then((result) => ({ ...result, events: this.events }))
      .finally(() => {
        clearTimeout(timer);
        this.#done = true;
        for (const look of this.#waiting) look();
      });
    this.finished.catch(() => {});
  }

  /** The first event of that name that fits, past or to come; rejects when the program ends without one. */
  async event(name: string, fits: (event: CliEvent) => boolean = () => true): Promise<CliEvent> {
    for (;;) {
      const found = this.events.find((event) => event.event === name && fits(event));
      if (found !== undefined) return found;
      if (this.#done) {
        throw new Error(`snapbak ended without the event '${name}': ${told(await this.finished)}`);
      }
      await new Promise<void>((resolve) => {
        const look = () => {
          this.#waiting.delete(look);
          resolve();
        };
        this.#waiting.add(look);
      });
    }
  }

  /** Ends it at once, if it still runs, and waits for its end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<CliResult> {
    if (!this.#done) this.child.kill(signal);
    return await this.finished;
  }
}

function parse(line: string): CliEvent | undefined {
  try {
    const value = JSON.parse(line) as CliEvent;
    return typeof value === 'object' && value !== null && typeof value.event === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

/** How it ended and what it said, without the progress, for the message of a failed assertion. */
export function told({ code, signal, stdout, stderr }: Result): string {
  const lines = stdout.split('\n').filter((line) => !line.startsWith('{"event":"progress"'));
  return `${signal ?? `exit status ${code}`}\n${lines.join('\n')}${stderr}`;
}

/** Runs `snapbak` to its end, whatever its exit status. */
export async function snapbak(...args: string[]): Promise<CliResult> {
  return await new CliRun(args).finished;
}

/** Waits for an end that must be with that exit status. */
export async function expectExit(code: number, ending: Promise<CliResult>): Promise<CliResult> {
  const result = await ending;
  if (result.code !== code)
    throw new Error(`snapbak did not end with exit status ${code}, but: ${told(result)}`);
  return result;
}

/** Runs `snapbak`, which must end with that exit status. */
export async function snapbakExits(code: number, ...args: string[]): Promise<CliResult> {
  return await expectExit(code, snapbak(...args));
}
