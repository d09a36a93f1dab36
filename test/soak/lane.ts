/**
 * One driver's part of a soak: an origin with applications that never stop,
 * and session after session on it. Each image is judged by what the
 * applications know; then the processes are looked at.
 */
import { open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { verify } from '../../lib/index.js';
import type { Cleanup } from '../helpers/cleanup.js';
import { loopDevice } from '../helpers/faulty-device.js';
import { makeImage, stamped } from '../helpers/images.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { type Resources, resourcesOf } from '../helpers/processes.js';
import { startServer } from '../helpers/serve.js';
import { saysComplete, untilIdle } from '../helpers/served-image.js';
import type { Figures } from './agent.js';
import { AgentProcess } from './agent-process.js';
import { type DriverKind, type Plan, plans } from './plan.js';
import { type Disk, Writer, type WriterKind } from './writer.js';

const MiB = 2 ** 20;
/** Of an origin. */
const SIZE = 16 * MiB;

/** The applications: their parts of the disk, in MiB. */
const WRITERS: [WriterKind, number, number][] = [
  ['first-touch', 0, 4],
  ['first-touch', 4, 4],
  ['safe', 8, 1],
  ['mixed', 9, 4],
  ['mixed', 13, 3],
];

/** After one session. */
export interface Sample {
  /** Milliseconds since the soak began. */
  at: number;
  library: Resources & { heap: number };
  nbdkit?: Resources;
  /** In the folder of the origin, its containers and its backups. */
  files: number;
}

export interface Period {
  sessions: number;
  minutes: number;
  /** Milliseconds, by kind of writer. */
  p99: Record<WriterKind, number>;
  longest: Record<WriterKind, number>;
  writes: Record<WriterKind, number>;
}

export type Outcome = 'finished' | 'aborted' | 'killed';

export class Lane {
  readonly driver: DriverKind;
  readonly samples: Sample[] = [];
  readonly periods: Period[] = [];
  readonly outcomes: Record<Outcome, number> = { finished: 0, aborted: 0, killed: 0 };
  readonly figures: Figures = { captured: 0, spilled: 0, delayed: 0, held: 0 };
  /** Images that were compared with the instant's contents. */
  images = 0;
  readonly #cleanup: Cleanup;
  readonly #plans: Generator<Plan, never>;
  readonly #seed: number;
  #folder = '';
  #image = '';
  #control: string | undefined;
  #nbdkit: number | undefined;
  #device = '';
  #agent!: AgentProcess;
  #writers: Writer[] = [];
  #began = 0;

  constructor(driver: DriverKind, seed: number, pace: number, cleanup: Cleanup) {
    this.driver = driver;
    this.#seed = seed;
    this.#plans = plans(seed, SIZE, pace);
    this.#cleanup = cleanup;
  }

  /**
   * Sessions until `end`, of `performance.now()`, and no fewer than `least`;
   * or until the signal. Figures of a period each `periodMs`.
   */
  async run(end: number, least: number, periodMs: number, signal?: AbortSignal): Promise<void> {
    await this.#open();
    this.#began = performance.now();
    let period = { began: this.#began, sessions: 0 };
    const closePeriod = () => {
      this.periods.push(this.#period(period.sessions, (performance.now() - period.began) / 60_000));
      period = { began: performance.now(), sessions: 0 };
    };
    while ((performance.now() < end || this.sessions < least) && signal?.aborted !== true) {
      await this.#session(this.#plans.next().value);
      period.sessions += 1;
      await this.#sample();
      if (performance.now() - period.began >= periodMs) closePeriod();
    }
    if (period.sessions > 0) closePeriod();
    await this.#end();
  }

  get sessions(): number {
    return this.samples.length;
  }

  async #open(): Promise<void> {
    this.#folder = this.#cleanup.folder(`soak-${this.driver}`);
    this.#image = join(this.#folder, 'disk.img');
    await makeImage(this.#image, SIZE);
    this.#device = await loopDevice(this.#cleanup, 32 * MiB);
    let disk: Disk | undefined;
    if (this.driver === 'user') {
      const server = await startServer(this.#image, { folder: this.#folder });
      this.#cleanup.defer('end nbdkit', () => server.stop());
      this.#control = server.control;
      this.#nbdkit = server.pid;
      disk = await this.#export(server.nbd);
    }
    this.#agent = await this.#openAgent(this.#image, this.#control);
    this.#cleanup.defer("end the library's process", () => this.#agent.stop());
    this.#writers = this.#startWriters(disk ?? this.#agent, this.#seed);
  }

  async #openAgent(image: string, control: string | undefined): Promise<AgentProcess> {
    const agent = new AgentProcess();
    const where = { image, device: this.#device, folder: this.#folder };
    agent.send({ order: 'open', ...where, ...(control === undefined ? {} : { control }) });
    await agent.expect('opened').catch(async (error: unknown) => {
      await agent.kill();
      throw error;
    });
    return agent;
  }

  /** The export, which writers share; times are of this process. */
  async #export(socket: string): Promise<Disk> {
    const client = await NbdClient.connect(socket);
    this.#cleanup.defer('leave the export', () => client.close());
    return {
      async write(offset, length, generation) {
        const data = stamped(offset, length, generation);
        const begin = performance.now();
        await client.write(offset, data);
        return performance.now() - begin;
      },
      read: (offset, length) => client.read(offset, length),
      flush: () => client.flush(),
    };
  }

  #startWriters(disk: Disk, seed: number): Writer[] {
    return WRITERS.map(
      ([kind, offset, length], i) => new Writer(kind, disk, offset * MiB, length * MiB, seed + i + 1),
    );
  }

  async #session(plan: Plan): Promise<void> {
    const directory = join(this.#folder, `backup-${plan.number}`);
    if (plan.end === 'kill') await this.#killed(plan, directory);
    else await this.#ended(plan, directory);
    for (const path of [directory, `${directory}.img`]) await rm(path, { recursive: true, force: true });
  }

  /** To its end, or aborted. */
  async #ended(plan: Plan, directory: string): Promise<void> {
    for (const writer of this.#writers) writer.mark();
    this.#agent.send({ order: 'run', plan, directory });
    await this.#agent.expect('started');
    const instants = this.#writers.map((writer) => writer.fixed());
    const timer = setTimeout(() => this.#agent.send({ order: 'abort' }), plan.endAfter);
    if (plan.end !== 'abort') clearTimeout(timer);
    const ended = await this.#agent.expect('ended');
    clearTimeout(timer);
    for (const name of Object.keys(this.figures) as (keyof Figures)[])
      this.figures[name] += ended.figures[name];
    if (plan.end === 'abort' && ended.code === 'ERR_SNAPBAK_ABORTED') {
      if (await saysComplete(directory)) throw new Error(`${this.#name(plan)}: aborted, and called complete`);
      this.outcomes.aborted += 1;
      return;
    }
    if (ended.state !== 'finished') throw new Error(`${this.#name(plan)}: ${ended.state}: ${ended.message}`);
    if (plan.targetRate === undefined && !(await saysComplete(directory))) {
      throw new Error(`${this.#name(plan)}: finished without a manifest that says complete`);
    }
    const image = plan.targetRate === undefined ? join(directory, 'data.img') : `${directory}.img`;
    await this.#judge(plan, image, instants);
    this.outcomes.finished += 1;
  }

  async #judge(plan: Plan, image: string, instants: ReturnType<Writer['fixed']>[]): Promise<void> {
    const file = await open(image, 'r');
    try {
      let [from, to] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
      for (const instant of instants) {
        const span = await instant.judge((offset, length) => readFrom(file, offset, length));
        if (typeof span === 'string') throw new Error(`${this.#name(plan)}: a wrong image: ${span}`);
        from = Math.max(from, span.from);
        to = Math.min(to, span.to);
      }
      if (from > to) throw new Error(`${this.#name(plan)}: the image is of no one instant of all writers`);
    } finally {
      await file.close();
    }
    this.images += 1;
  }

  /** In a process of its own, which is killed; with the embedded driver that is an application of its own, too. */
  async #killed(plan: Plan, directory: string): Promise<void> {
    const own = this.#control === undefined ? join(this.#folder, 'victim.img') : undefined;
    if (own !== undefined) await makeImage(own, SIZE);
    const agent = await this.#openAgent(own ?? this.#image, this.#control);
    const writers = own === undefined ? [] : this.#startWriters(agent, this.#seed + plan.number);
    try {
      agent.send({ order: 'run', plan, directory });
      await agent.expect('started');
      await sleep(plan.endAfter);
    } finally {
      await agent.kill();
    }
    let over = false;
    for (let news = await agent.next(); news !== undefined; news = await agent.next()) {
      over ||= news.news === 'ended';
    }
    if (!over && plan.targetRate === undefined && (await saysComplete(directory))) {
      // durable a moment before the kill: then it must be good
      await verify({ backup: directory });
      over = true;
    }
    this.outcomes[over ? 'finished' : 'killed'] += 1;
    if (own === undefined) return await untilIdle(`unix:${this.#control}`);
    await this.#judgeDisk(own, writers);
    await rm(own);
  }

  /** Every write that was acknowledged is on the origin. */
  async #judgeDisk(image: string, writers: readonly Writer[]): Promise<void> {
    // they end by their disk's going away
    await Promise.allSettled(writers.map((writer) => writer.stop()));
    const file = await open(image, 'r');
    try {
      for (const writer of writers) {
        const wrong = await writer.judgeDisk((offset, length) => readFrom(file, offset, length));
        if (wrong !== undefined) throw new Error(`${this.driver}: ${wrong}`);
      }
    } finally {
      await file.close();
    }
  }

  async #sample(): Promise<void> {
    this.#agent.send({ order: 'measure' });
    const { heap } = await this.#agent.expect('measured');
    this.samples.push({
      at: performance.now() - this.#began,
      library: { ...resourcesOf(this.#agent.pid), heap },
      ...(this.#nbdkit === undefined ? {} : { nbdkit: resourcesOf(this.#nbdkit) }),
      files: (await readdir(this.#folder)).length,
    });
  }

  #period(sessions: number, minutes: number): Period {
    const kinds: WriterKind[] = ['first-touch', 'safe', 'mixed'];
    const of = (pick: (writers: Writer[]) => number) =>
      Object.fromEntries(
        kinds.map((kind) => [kind, pick(this.#writers.filter((writer) => writer.kind === kind))]),
      ) as Record<WriterKind, number>;
    const worst = (value: (writer: Writer) => number) => (writers: Writer[]) =>
      Math.max(...writers.map(value)) / 1e6;
    const period = {
      sessions,
      minutes,
      p99: of(worst(({ latency }) => latency.percentile(99))),
      longest: of(worst(({ latency }) => latency.max)),
      writes: of((writers) => writers.reduce((sum, { writes }) => sum + writes, 0)),
    };
    for (const writer of this.#writers) {
      writer.latency.reset();
      writer.writes = 0;
    }
    return period;
  }

  /** Stops the applications, and sees that the origin has all that they wrote. */
  async #end(): Promise<void> {
    await Promise.all(this.#writers.map((writer) => writer.stop()));
    await this.#judgeDisk(this.#image, this.#writers);
    if (this.#agent.said !== '') throw new Error(`${this.driver}: the library said: ${this.#agent.said}`);
  }

  #name({ number, container, blockSize, end }: Plan): string {
    return `${this.driver} session ${number} (${container}, ${blockSize / 1024} KiB blocks, ${end})`;
  }
}

async function readFrom(
  file: Awaited<ReturnType<typeof open>>,
  offset: number,
  length: number,
): Promise<Buffer> {
  const data = Buffer.alloc(length);
  await file.read(data, 0, length, offset);
  return data;
}
