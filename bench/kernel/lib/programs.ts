/** The C programs of `bench/kernel/guest`, as the guest's side of a benchmark steers them. */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { run } from '../../lib/processes.js';

export const PROGRAMS = fileURLToPath(new URL('../guest/build', import.meta.url));

/** A program that answers in lines of JSON. */
class Talker {
  readonly #name: string;
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #exited: Promise<unknown[]>;

  constructor(program: string, options: string[]) {
    this.#name = program;
    this.#process = spawn(`${PROGRAMS}/${program}`, options, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#exited = once(this.#process, 'close');
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async next(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.#name} ended before it answered`);
    return JSON.parse(value);
  }

  tell(line: string): void {
    this.#process.stdin.write(`${line}\n`);
  }

  terminate(): void {
    this.#process.kill('SIGTERM');
  }

  /** Waits for the end. */
  async ended(): Promise<void> {
    this.#process.stdin.end();
    const [code, signal] = await this.#exited;
    if (code !== 0) throw new Error(`${this.#name} ended with ${code ?? signal}`);
  }
}

/** How long START took, nanoseconds; see `snapbak_start`. */
export interface Armed {
  armNs: number;
  freezeNs: number;
}

export interface ConsumerCounts {
  captured: number;
  captureNs: number;
  held: number;
  delayed: number;
  waited: number;
}

/** A session that a `consumer` holds. */
export class Consumer {
  readonly armed: Armed;
  readonly #talker: Talker;

  private constructor(talker: Talker, armed: Armed) {
    this.#talker = talker;
    this.armed = armed;
  }

  /** Resolves when the point in time is fixed. */
  static async start(origin: string, ...options: string[]): Promise<Consumer> {
    const talker = new Talker('consumer', [...options, origin]);
    return new Consumer(talker, (await talker.next()) as Armed);
  }

  /** With `--sweep` and `--claim`: the seconds that it took to copy all. */
  async copied(): Promise<number> {
    return ((await this.#talker.next()) as { seconds: number }).seconds;
  }

  /** Ends the session and the program. */
  async end(): Promise<ConsumerCounts> {
    this.#talker.terminate();
    const counts = (await this.#talker.next()) as ConsumerCounts;
    await this.#talker.ended();
    return counts;
  }
}

export interface SetUp {
  mappedBytes: number;
  slotBytes: number;
  blocks: number;
}

/** Sessions on several origins, a step at a time; see `guest/sessions.c`. */
export class Sessions {
  readonly #talker: Talker;

  constructor(...origins: string[]) {
    this.#talker = new Talker('sessions', origins);
  }

  async setup(): Promise<SetUp> {
    return (await this.#step('setup')) as SetUp;
  }

  async start(): Promise<Armed & { ioctlNs: number }> {
    return (await this.#step('start')) as Armed & { ioctlNs: number };
  }

  async end(): Promise<void> {
    await this.#step('end');
  }

  /** Ends the program. */
  close(): Promise<void> {
    return this.#talker.ended();
  }

  #step(name: string): Promise<unknown> {
    this.#talker.tell(name);
    return this.#talker.next();
  }
}

export interface Turns {
  direction: 'read' | 'write';
  depth: number;
  /** Of each device in each turn. */
  requests: number;
  turns: number;
}

/** Nanoseconds a request: a row a turn, a column a device. */
export async function turns(options: Turns, devices: string[]): Promise<number[][]> {
  const { direction, depth, requests, turns } = options;
  const output = await run([
    `${PROGRAMS}/turns`,
    direction,
    ...[depth, requests, turns].map(String),
    ...devices,
  ]);
  return output
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number));
}
