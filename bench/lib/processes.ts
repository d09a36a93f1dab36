/**
 * Child processes of a benchmark: pinned to one CPU, known by their id, and gone when the benchmark is.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { onCleanup } from './cleanup.js';

/** How long a server may take until it serves, and to end after SIGTERM. */
const START_MS = 15_000;
const STOP_MS = 5_000;

/** The two CPUs that a side-by-side run uses. */
export interface Cpus {
  /** fio runs here. */
  client: number;
  /** The server, and everything of ours or of the peer's that copies. */
  server: number;
}

/**
 * The first two CPUs that this process may run on.
 *
 * @throws Error if there is only one: client and server would take turns, and every figure would be wrong.
 */
export function twoCpus(): Cpus {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  const cpus = list.split(',').flatMap((range) => {
    const [first, last] = range.split('-').map(Number);
    if (first === undefined) return [];
    return Array.from({ length: (last ?? first) - first + 1 }, (_, index) => first + index);
  });
  const [client, server] = cpus;
  if (client === undefined || server === undefined) {
    throw new Error(`the benchmarks need two CPUs, one for fio and one for the server; allowed: ${list}`);
  }
  return { client, server };
}

/** A started child and what it said on stderr (the last 64 KiB). */
export class Child {
  readonly process: ChildProcess;
  readonly name: string;
  readonly exited: Promise<void>;
  #stdout = '';
  #stderr = '';
  readonly #forget: () => void;

  constructor(name: string, command: string[], options: { cpu?: number; ipc?: boolean } = {}) {
    const pin = options.cpu === undefined ? [] : ['taskset', '-c', String(options.cpu)];
    const [program, ...rest] = [...pin, ...command];
    if (program === undefined) throw new RangeError('command: empty');
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', ...(options.ipc ? (['ipc'] as const) : [])];
    this.name = name;
    this.process = spawn(program, rest, { stdio });
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-65_536);
    });
    this.exited = new Promise((resolve) => {
      this.process.once('close', () => resolve());
      this.process.on('error', (error) => {
        this.#stderr += `${program}: ${error.message}\n`;
        // an order that came too late is an error, too, and not yet the end
        if (this.process.pid === undefined) resolve();
      });
    });
    this.#forget = onCleanup(() => {
      if (this.running) this.process.kill('SIGKILL');
      return this.exited;
    });
  }

  get running(): boolean {
    return (
      this.process.pid !== undefined && this.process.exitCode === null && this.process.signalCode === null
    );
  }

  get pid(): number {
    if (this.process.pid === undefined) throw new Error(`${this.name} was not started: ${this.said}`);
    return this.process.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** What it said on stderr. */
  get said(): string {
    return this.#stderr.trim();
  }

  /** Waits for the end; an exit status but 0 is an error. */
  async done(): Promise<void> {
    await this.exited;
    this.#forget();
    if (this.process.exitCode !== 0) {
      throw new Error(
        `${this.name} ended with ${this.process.exitCode ?? this.process.signalCode}: ${this.said}`,
      );
    }
  }

  /** Polls `ready` until it holds; the end of the child, or a long time without it, is an error. */
  async until(ready: () => boolean): Promise<void> {
    const deadline = Date.now() + START_MS;
    while (!ready()) {
      if (!this.running) {
        await this.exited;
        throw new Error(`${this.name} ended before it served: ${this.said}`);
      }
      if (Date.now() > deadline) throw new Error(`${this.name} does not serve after ${START_MS} ms`);
      await sleep(5);
    }
  }

  /** SIGTERM, and SIGKILL if that was not heard. Idempotent. */
  async stop(): Promise<void> {
    if (this.running) {
      this.process.kill('SIGTERM');
      const timer = setTimeout(() => this.process.kill('SIGKILL'), STOP_MS);
      await this.exited;
      clearTimeout(timer);
    }
    this.#forget();
  }
}

/** Runs a command to its end and gives what it printed. */
export async function run(command: string[], options: { cpu?: number } = {}): Promise<string> {
  const child = new Child(command[0] ?? '', command, options);
  await child.done();
  return child.stdout;
}

/** Seconds that a command takes from its start to its end. */
export async function timed(command: string[]): Promise<number> {
  const begin = process.hrtime.bigint();
  await run(command);
  return Number(process.hrtime.bigint() - begin) / 1e9;
}

/** KiB of memory that the processes hold, each shared page counted in parts; see `proc_pid_smaps(5)`. */
export function pssKiB(pids: number[]): number {
  return pids
    .map((pid) => readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
    .reduce((sum, text) => sum + Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0), 0);
}
