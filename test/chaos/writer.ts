/**
 * An application: one random request after the other, each told to the
 * journal before it is made and after it is answered. Every writer has areas
 * of its own, so that what it reads is what it wrote.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { stamped } from '../helpers/images.js';
import { ModelDisk } from '../helpers/model-disk.js';
import { Draw } from './draw.js';
import type { Journal, Kind, Request } from './journal.js';
import type { Plan } from './plan.js';

/** What an embedded origin and an NBD export have in common. */
export interface Disk {
  read(offset: number, length: number): Promise<Buffer>;
  write(offset: number, data: Uint8Array, options: { fua: boolean }): Promise<void>;
  writeZeroes(offset: number, length: number, options: { fua: boolean; mayTrim: boolean }): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
}

/** What writers met. */
export interface WriterReport {
  requests: number;
  failed: number;
  /** Milliseconds of the longest write that need not be durable, and of the longest request that must. */
  longestMs: number;
  longestSyncMs: number;
  /** What was wrong: reads that gave something else than what was written. */
  wrong: string[];
}

const KINDS = { write: 60, zero: 8, discard: 6, flush: 2, read: 12 } satisfies Record<Kind, number>;
const AREAS = 4;

/** The areas of a writer: offset and end. */
export function areasOf(writer: number, writers: number, size: number): [number, number][] {
  const length = Math.ceil(size / (writers * AREAS));
  return Array.from({ length: AREAS }, (_, i): [number, number] => {
    const offset = (i * writers + writer) * length;
    return [Math.min(size, offset), Math.min(size, offset + length)];
  }).filter(([offset, end]) => offset < end);
}

export class Writers {
  readonly report: WriterReport = { requests: 0, failed: 0, longestMs: 0, longestSyncMs: 0, wrong: [] };
  readonly #plan: Plan;
  readonly #journal: Journal;
  readonly #disk: (writer: number) => Promise<Disk | undefined>;
  readonly #model: ModelDisk;
  readonly #underWay = new Map<number, Request & { since: number }>();
  #stopping = false;
  #lanes: Promise<void>[] = [];

  /**
   * @param content the origin as it is
   * @param disk what a writer writes to; asked again after a failure; undefined: it stops
   */
  constructor(
    plan: Plan,
    content: Uint8Array,
    journal: Journal,
    disk: (writer: number) => Promise<Disk | undefined>,
  ) {
    this.#plan = plan;
    this.#model = new ModelDisk(content);
    this.#journal = journal;
    this.#disk = disk;
  }

  /** They write from here on. `stream`: another row of requests for each. */
  start(stream: number): void {
    this.#lanes = Array.from({ length: this.#plan.writers }, (_, writer) => this.#lane(writer, stream));
  }

  /** Resolves once they have made so many more requests; or all have stopped. */
  async wrote(count: number): Promise<void> {
    const goal = this.report.requests + count;
    const all = Promise.all(this.#lanes).then(() => true);
    while (this.report.requests < goal) {
      if (await Promise.race([all, sleep(5)])) return;
    }
  }

  /** Ends them; rejects when a request is not answered in that time, or a read was wrong. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    const timer = new AbortController();
    const late = sleep(timeoutMs, true, { signal: timer.signal }).catch(() => false);
    const ended = Promise.all(this.#lanes).then(() => false);
    ended.catch(() => {});
    const stuck = await Promise.race([ended, late]);
    timer.abort();
    if (stuck) {
      const list = [...this.#underWay.values()].map((request) => JSON.stringify(request));
      throw new Error(`not answered ${timeoutMs} ms after the end: ${list.join(', ')}`);
    }
    await ended;
  }

  async #lane(writer: number, stream: number): Promise<void> {
    const { seed, index, writers, size, longest, pauseMs } = this.#plan;
    const draw = new Draw(seed, index, stream, writer);
    const areas = areasOf(writer, writers, size);
    if (areas.length === 0) return;
    let disk = await this.#disk(writer);
    for (let number = 0; !this.#stopping && disk !== undefined; number++) {
      const [from, to] = draw.pick(areas);
      const offset = draw.int(from, to - 1);
      const most = draw.chance(0.7) ? Math.min(longest, 8192) : longest;
      const length = draw.int(1, Math.min(most, to - offset));
      const kind = draw.weighted(KINDS);
      const generation = 2 + (stream * 1_000_000 + number) * writers + writer;
      const request: Request = { writer, number, kind, offset, length, generation };
      if (!(await this.#make(disk, request, draw.chance(0.02)))) disk = await this.#disk(writer);
      if (pauseMs > 0 || number % 32 === 31) await sleep(draw.int(0, pauseMs));
    }
  }

  /** False: it failed. */
  async #make(disk: Disk, request: Request, fua: boolean): Promise<boolean> {
    const { report } = this;
    const since = performance.now();
    this.#underWay.set(request.writer, { ...request, since });
    this.#journal.begin(request);
    let done = true;
    try {
      await this.#ask(disk, request, fua);
    } catch {
      done = false;
    }
    this.#journal.end(request, done);
    this.#underWay.delete(request.writer);
    apply(this.#model, request, done);
    const took = performance.now() - since;
    if (fua || request.kind === 'flush') report.longestSyncMs = Math.max(report.longestSyncMs, took);
    else report.longestMs = Math.max(report.longestMs, took);
    report.requests += 1;
    if (!done) report.failed += 1;
    return done;
  }

  async #ask(disk: Disk, request: Request, fua: boolean): Promise<void> {
    const { kind, offset, length, generation } = request;
    switch (kind) {
      case 'write':
        return await disk.write(offset, stamped(offset, length, generation), { fua });
      case 'zero':
        return await disk.writeZeroes(offset, length, { fua, mayTrim: generation % 2 === 0 });
      case 'discard':
        return await disk.discard(offset, length);
      case 'flush':
        return await disk.flush();
      case 'read': {
        const data = await disk.read(offset, length);
        const wrong = this.#model.firstWrong(data, offset);
        if (wrong !== undefined) this.report.wrong.push(`${JSON.stringify(request)} read wrong at ${wrong}`);
      }
    }
  }
}

/** What a request does to a disk; without a good answer it may have done so, or not. */
export function apply(model: ModelDisk, { kind, offset, length, generation }: Request, done: boolean): void {
  if (kind === 'write') {
    const data = stamped(offset, length, generation);
    if (done) model.write(offset, data);
    else model.attempt(offset, length, data);
  } else if (kind === 'zero') {
    if (done) model.zero(offset, length);
    else model.attempt(offset, length);
  } else if (kind === 'discard') {
    model.discard(offset, length);
  }
}
