/**
 * One session from its stage to the verdict: sets it up, strikes when the plan
 * says so, and looks at what is left. A second backup of the same origin, with
 * nothing to stop it, shows that the first one left it in order.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NbdClient } from '../helpers/nbd-client.js';
import { added, childrenOf, openFiles, programOf, sharedMappings } from '../helpers/processes.js';
import { until } from '../helpers/programs.js';
import type { News } from './agent.js';
import { Agent } from './agent-process.js';
import { Draw } from './draw.js';
import { Journal, readJournal } from './journal.js';
import { contentOf, judgeOrigin } from './judge.js';
import type { LibraryReport } from './library.js';
import { cleanPlan, type Plan } from './plan.js';
import { Stage } from './stage.js';
import { bound, devicesLeft, type Evidence, judge } from './verdict.js';
import { Writers } from './writer.js';

/** No session of a plan takes longer, unless something hangs. */
const SESSION_MS = 60_000;
const LAST_WRITE_MS = 20_000;

/** The processes of one row of sessions: one that lasts, and one to be killed. */
export class Lane {
  readonly folder: string;
  readonly #library: string;
  #steady: Agent | undefined;
  #doomed: Promise<Agent> | undefined;
  #count = 0;
  /** What the lasting one had open after its first session. */
  files: string[] | undefined;
  /** Its memory after each session. */
  readonly rss: number[] = [];

  constructor(folder: string, library: string) {
    this.folder = folder;
    this.#library = library;
    mkdirSync(folder);
  }

  async steady(): Promise<Agent> {
    this.#steady ??= await this.#start();
    return this.#steady;
  }

  /** The next one is made ready at once. */
  async doomed(): Promise<Agent> {
    const agent = await (this.#doomed ?? this.#start());
    this.#doomed = this.#start();
    return agent;
  }

  temporary(agent: Agent): string {
    return `${agent.table.path}.tmp`;
  }

  async end(): Promise<void> {
    await this.#steady?.stop();
    await (await this.#doomed)?.stop();
  }

  async #start(): Promise<Agent> {
    const name = `agent-${this.#count++}`;
    const temporary = join(this.folder, `${name}.faults.tmp`);
    mkdirSync(temporary);
    const agent = new Agent(this.#library, this.folder, name, temporary);
    const news = await agent.next();
    if (news?.news !== 'ready') throw new Error(`the agent does not begin: ${agent.said}`);
    return agent;
  }
}

/** What became of a session. */
export interface Outcome {
  plan: Plan;
  end: string;
  /** Nothing, if all is well. */
  wrong: string[];
  /** How often each fault struck. */
  hits: Record<string, number>;
  report: LibraryReport | undefined;
  requests: number;
  /** The longest write that need not be durable, and its bound. */
  longestMs: number;
  boundMs: number;
  seconds: number;
}

/** Runs a session; its folder stays if anything is wrong with it. */
export async function runSession(plan: Plan, lane: Lane, preload: string): Promise<Outcome> {
  const begin = performance.now();
  const folder = join(lane.folder, `session-${plan.seed}-${plan.index}`);
  const wrong: string[] = [];
  let told: { evidence: Evidence; hits: Record<string, number> } | undefined;
  try {
    const stage = await Stage.make(plan, folder, preload);
    try {
      told = await perform(plan, stage, lane, wrong);
    } finally {
      await stage.end();
    }
    wrong.push(...(await devicesLeft(folder)));
  } catch (error) {
    wrong.push((error as Error).stack ?? String(error));
  }
  if (wrong.length === 0) rmSync(folder, { recursive: true });
  const { evidence } = told ?? {};
  return {
    plan,
    end: evidence?.end ?? 'none',
    wrong,
    hits: told?.hits ?? {},
    report: evidence?.report,
    requests: evidence?.writers?.requests ?? 0,
    longestMs: evidence?.writers?.longestMs ?? 0,
    boundMs: evidence === undefined ? Number.POSITIVE_INFINITY : bound(evidence),
    seconds: (performance.now() - begin) / 1000,
  };
}

async function perform(plan: Plan, stage: Stage, lane: Lane, wrong: string[]) {
  writeFileSync(join(stage.places.folder, 'plan.json'), JSON.stringify(plan, null, 2));
  const doomed = plan.blow?.what === 'kill-library' || plan.blow?.what === 'exit-library';
  const agent = await (doomed ? lane.doomed() : lane.steady());
  const told = await new Session(plan, stage, agent, lane, wrong).run();
  if (doomed) await agent.stop();
  wrong.push(...(await judge(told.evidence)));
  if (new Draw(plan.seed, plan.index, -1).chance(0.3)) {
    const next = await lane.steady();
    wrong.push(...(await followUp(cleanPlan(plan), stage, next, lane, told.evidence.after)));
  }
  return told;
}

async function followUp(
  plan: Plan,
  stage: Stage,
  agent: Agent,
  lane: Lane,
  before: Buffer,
): Promise<string[]> {
  const { places } = stage;
  places.before = join(places.folder, 'before.img');
  writeFileSync(places.before, before);
  places.journal = join(places.folder, 'journal-1');
  places.backup = join(places.folder, 'backup-1');
  delete places.targetDevice;
  delete places.tierDevice;
  const wrong: string[] = [];
  const { evidence } = await new Session(plan, stage, agent, lane, wrong, before).run();
  wrong.push(...(await judge(evidence)));
  return wrong.map((what) => `the next backup: ${what}`);
}

class Session {
  readonly #plan: Plan;
  readonly #stage: Stage;
  readonly #agent: Agent;
  readonly #lane: Lane;
  readonly #wrong: string[];
  readonly #before: Buffer;
  readonly #next: boolean;
  readonly #over = new AbortController();
  readonly #ended = new Promise<void>((resolve) => {
    this.#over.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  #writers: Writers | undefined;
  #journal: Journal | undefined;
  #clients: NbdClient[] = [];
  /** Pending while nbdkit is gone. */
  #served: Promise<void> = Promise.resolve();
  #started!: () => void;
  readonly #begun = new Promise<void>((resolve) => {
    this.#started = resolve;
  });

  constructor(plan: Plan, stage: Stage, agent: Agent, lane: Lane, wrong: string[], before?: Buffer) {
    this.#plan = plan;
    this.#stage = stage;
    this.#agent = agent;
    this.#lane = lane;
    this.#wrong = wrong;
    this.#next = before !== undefined;
    this.#before = before ?? contentOf(plan);
  }

  async run(): Promise<{ evidence: Evidence; hits: Record<string, number> }> {
    const { places } = this.#stage;
    const lag = monitorEventLoopDelay({ resolution: 5 });
    lag.enable();
    if (this.#plan.driver === 'user') await this.#beginWriting();
    const idle = this.#plan.driver === 'user' ? this.#driverFiles() : undefined;
    for (const fault of this.#plan.faults) void this.#armLater(fault);
    this.#journal?.mark('go');
    const inWorker = this.#plan.blow?.what === 'end-worker';
    this.#agent.send({ order: 'run', plan: this.#plan, places, inWorker });
    const blow = this.#strike();
    const report = await this.#listen();
    this.#over.abort();
    await blow;
    await this.#writers?.wrote(5);
    await this.#writers?.stop(LAST_WRITE_MS).catch((error: Error) => this.#wrong.push(error.message));
    const hits = this.#stage.disarm();
    if (idle !== undefined && this.#plan.blow?.what !== 'kill-driver') await this.#driverIsIdle(idle);
    for (const client of this.#clients) await client.close();
    this.#journal?.close();
    lag.disable();
    await this.#measure();
    const evidence: Evidence = {
      plan: this.#plan,
      places: { ...places },
      before: this.#before,
      after: this.#stage.content(),
      end: report?.end ?? 'killed',
      report,
      writers: this.#writers?.report ?? report?.writers,
      lagMs: lag.max / 1e6 + (report?.lagMs ?? 0),
      temporary: this.#lane.temporary(this.#agent),
    };
    return { evidence, hits };
  }

  async #beginWriting(): Promise<void> {
    this.#journal = new Journal(this.#stage.places.journal);
    this.#writers = new Writers(this.#plan, this.#before, this.#journal, (writer) => this.#client(writer));
    for (let writer = 0; writer < this.#plan.writers; writer++) await this.#client(writer);
    this.#writers.start(this.#next ? 1 : 0);
    await this.#writers.wrote(10);
  }

  /** A connection of the writer's own; a new one where the last is of no use any more. */
  async #client(writer: number): Promise<NbdClient | undefined> {
    await this.#served;
    const last = this.#clients[writer];
    if (last?.connected) return last;
    this.#clients[writer] = await this.#stage.connect();
    return this.#clients[writer];
  }

  async #armLater(fault: Plan['faults'][number]): Promise<void> {
    if (fault.afterMs > 0) {
      const { signal } = this.#over;
      await this.#begun;
      await sleep(fault.afterMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
    }
    this.#stage.arm(fault, this.#agent);
    if (fault.effect === 'sever') this.#agent.send({ order: 'touch' });
  }

  /** The library's news until it has ended; undefined: without a word. */
  async #listen(): Promise<LibraryReport | undefined> {
    const late = setTimeout(() => {
      this.#wrong.push(`it did not end within ${SESSION_MS} ms`);
      this.#agent.kill('SIGKILL');
    }, SESSION_MS);
    try {
      for (;;) {
        const news: News | undefined = await this.#agent.next();
        if (news?.news === 'started') {
          this.#journal?.mark('started');
          this.#started();
        } else if (news?.news === 'ended') {
          return news.report;
        } else if (news?.news === 'failed') {
          this.#wrong.push(news.message);
          return undefined;
        } else if (news === undefined) {
          await this.#checkDeath();
          return undefined;
        } else if (news.news === 'ready') {
          return undefined; // its worker is gone
        }
      }
    } finally {
      clearTimeout(late);
    }
  }

  async #checkDeath(): Promise<void> {
    const expected = { 'kill-library': 'SIGKILL', 'exit-library': 0 }[this.#plan.blow?.what as string];
    const end = await this.#agent.exited;
    if (end !== expected) this.#wrong.push(`the library's process ended by ${end}: ${this.#agent.said}`);
  }

  async #strike(): Promise<void> {
    const { blow } = this.#plan;
    if (blow === undefined) return;
    if (blow.since === 'started') await Promise.race([this.#begun, this.#ended]);
    await sleep(blow.afterMs, undefined, { signal: this.#over.signal }).catch(() => {});
    const over = this.#over.signal.aborted;
    switch (blow.what) {
      case 'kill-library':
        return this.#agent.kill('SIGKILL');
      case 'exit-library':
        return this.#agent.send({ order: 'exit' });
      case 'end-worker':
        this.#agent.send({ order: 'end-worker' });
        if (over) await this.#agent.next();
        return;
      case 'stop-library':
        if (over) return;
        this.#agent.kill('SIGSTOP');
        await sleep(blow.forMs);
        return this.#agent.kill('SIGCONT');
      case 'kill-driver':
        return await this.#killDriver();
    }
  }

  async #killDriver(): Promise<void> {
    let serve = () => {};
    this.#served = new Promise((resolve) => {
      serve = resolve;
    });
    await this.#stage.killServer();
    await until('the writers were told', () => this.#clients.every((client) => !client.connected));
    await new Promise((resolve) => setImmediate(resolve));
    const lost = judgeOrigin(this.#before, readJournal(this.#stage.places.journal), this.#stage.content());
    if (lost !== undefined) this.#wrong.push(`after nbdkit was killed: ${lost}`);
    await this.#stage.startServer();
    serve();
  }

  #driverFiles(): { files: string[]; mappings: number } {
    const { serverPid } = this.#stage;
    return { files: openFiles(serverPid), mappings: sharedMappings(serverPid) };
  }

  /** A driver without a session has nothing of one. */
  async #driverIsIdle(before: { files: string[]; mappings: number }): Promise<void> {
    let more: string[] = [];
    await until(
      'the driver is idle',
      () => {
        const now = this.#driverFiles();
        more = added(before.files, now.files);
        if (now.mappings > before.mappings) more.push('a mapping of shared memory');
        return more.length === 0;
      },
      10_000,
    ).catch(() => this.#wrong.push(`nbdkit still has ${more.join(', ')}`));
  }

  /** The library's process gave everything back, if it lives. */
  async #measure(): Promise<void> {
    const what = this.#plan.blow?.what;
    if (what === 'kill-library' || what === 'exit-library') return void (await this.#agent.exited);
    let more: string[] = [];
    const look = async () => {
      this.#agent.send({ order: 'measure' });
      let news = await this.#agent.next();
      while (news !== undefined && news.news !== 'measured') news = await this.#agent.next();
      if (news === undefined) return true;
      const { folder } = this.#stage.places;
      this.#lane.files ??= news.files.filter((name) => !name.startsWith(folder));
      // a worker that is ended while it is loaded leaves what its loader read
      more = added(this.#lane.files, news.files).filter((name) => !name.includes('/node_modules/'));
      if (sharedMappings(this.#agent.pid) > 0) more.push('a mapping of shared memory');
      if (more.length === 0) this.#lane.rss.push(news.rss);
      return more.length === 0;
    };
    await until('the library is idle', look, 5000).catch(() => {
      this.#wrong.push(`the library's process still has ${more.join(', ')}`);
    });
    if (!this.#agent.running) return void this.#wrong.push(`the library's process died: ${this.#agent.said}`);
    // the loader of TypeScript has one, and one in each worker
    const children = childrenOf(this.#agent.pid).filter((pid) => programOf(pid) !== 'esbuild');
    if (children.length > 0) this.#wrong.push(`the library's process left children: ${children.join(', ')}`);
  }
}
