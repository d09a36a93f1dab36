/**
 * Sessions, in rows beside each other, and what became of them:
 * tallies, memory, and all that must be true of the whole.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { added, childrenOf, loopDevicesIn, openFiles } from '../helpers/processes.js';
import { buildFaults } from './fault-table.js';
import { type Driver, type Plan, planOf } from './plan.js';
import { Lane, type Outcome, runSession } from './session.js';

export interface CampaignOptions {
  plans: Iterable<Plan>;
  /** Sessions at a time. */
  rows: number;
  /** Goes on after a session in which something was wrong. Default: false. */
  keepGoing?: boolean;
  /** Begins no more sessions. */
  signal?: AbortSignal;
  /** Told of each session that is over. */
  onSession?(outcome: Outcome, summary: Summary): void;
}

/** Bytes: the middle of the second and of the last third of what was measured. */
export interface MemoryTrend {
  process: string;
  samples: number;
  second: number;
  last: number;
}

export interface Summary {
  sessions: number;
  seconds: number;
  /** Sessions by their main fault, and by how they ended. */
  disasters: Record<string, number>;
  ends: Record<string, number>;
  /** System calls that were spoilt. */
  faults: Record<string, number>;
  requests: number;
  captured: number;
  held: number;
  delayed: number;
  spilled: number;
  resized: number;
  /** The longest write, that nearest to its bound, and the longest hold by the driver's own count. */
  longestMs: number;
  nearest: { longestMs: number; boundMs: number; index: number };
  heldMaxMs: number;
  memory: MemoryTrend[];
  /** Sessions in which something was wrong, and what is wrong with the whole. */
  failures: Outcome[];
  wrong: string[];
  /** What failed sessions left, for who looks into it. */
  folder: string | undefined;
}

/** Of a process that gives back what it takes, the last third is no more than this above the second. */
export const MEMORY_GROWTH = 8 * 2 ** 20;
/** Fewer samples say nothing of a trend. */
const SAMPLES = 60;

export async function runCampaign(options: CampaignOptions): Promise<Summary> {
  const begin = performance.now();
  const root = mkdtempSync(join(tmpdir(), 'snapbak-chaos-'));
  const filesBefore = openFiles(process.pid);
  const childrenBefore = childrenOf(process.pid);
  const summary = emptySummary();
  const library = await buildFaults(root);
  mkdirSync(join(root, 'rows'));
  const lanes = Array.from({ length: options.rows }, (_, i) => new Lane(join(root, 'rows', `${i}`), library));
  const own: number[] = [];
  const plans = options.plans[Symbol.iterator]();
  const goOn = () => !options.signal?.aborted && (options.keepGoing || summary.failures.length === 0);
  const row = async (lane: Lane) => {
    while (goOn()) {
      const { value: plan, done } = plans.next();
      if (done) return;
      const outcome = await runSession(plan, lane, library);
      add(summary, outcome);
      own.push(process.memoryUsage.rss());
      summary.seconds = (performance.now() - begin) / 1000;
      options.onSession?.(outcome, summary);
    }
  };
  try {
    await Promise.all(lanes.map(row));
  } finally {
    for (const lane of lanes) await lane.end();
  }
  for (const [i, lane] of lanes.entries()) addTrend(summary, `library ${i}`, lane.rss);
  addTrend(summary, 'this process', own);
  summary.seconds = (performance.now() - begin) / 1000;
  const children = childrenOf(process.pid).filter((pid) => !childrenBefore.includes(pid));
  if (children.length > 0) summary.wrong.push(`processes are left: ${children.join(', ')}`);
  // what an interpreter opens once, it keeps; anything else is named
  const files = added(filesBefore, openFiles(process.pid)).filter(
    (name) => name.includes(root) || name === 'socket',
  );
  if (files.length > 0) summary.wrong.push(`descriptors are left: ${files.join(', ')}`);
  const devices = loopDevicesIn(root);
  if (devices.length > 0) summary.wrong.push(`loop devices are left: ${devices.join(', ')}`);
  if (summary.failures.length === 0) rmSync(root, { recursive: true });
  else summary.folder = root;
  return summary;
}

/** So many sessions of a seed, from a number on. */
export function* plansOf(
  seed: number,
  drivers: readonly Driver[],
  { from, sessions }: { from: number; sessions: number },
): Generator<Plan> {
  for (let index = from; index < from + sessions; index++) yield planOf(seed, index, drivers);
}

/** How to repeat a session that failed. */
export function again({ plan }: Outcome, driver?: Driver): string {
  const of = driver === undefined ? '' : `--driver ${driver} `;
  return `npm run chaos -- ${of}--seed ${plan.seed} --from ${plan.index} --sessions 1`;
}

/** What a long run must have met, or it proves little. */
export function missing({ ends, disasters, faults, held, delayed, spilled, resized }: Summary): string[] {
  const wanted = [
    ['ends', ends, ['complete', 'complete-with-invalid-blocks', 'killed']],
    [
      'ends',
      ends,
      ['HOLD_TIMEOUT', 'TARGET', 'CONTAINER_LOST', 'DRIVER_GONE', 'STALLED', 'BROKEN', 'ABORTED'].map(
        (code) => `ERR_SNAPBAK_${code}`,
      ),
    ],
  ] as const;
  const absent = wanted.flatMap(([what, found, names]) =>
    names.filter((name) => found[name] === undefined).map((name) => `${what}: ${name}`),
  );
  for (const name of Object.keys(disasters)) {
    if (disasters[name] === 0) absent.push(`disasters: ${name}`);
  }
  for (const name of [
    'short origin',
    'short target',
    'short control',
    'interrupted target',
    'delay target',
  ]) {
    if ((faults[name] ?? 0) === 0) absent.push(`faults: ${name}`);
  }
  for (const [name, count] of Object.entries({ held, delayed, spilled, resized })) {
    if (count === 0) absent.push(name);
  }
  return absent;
}

function emptySummary(): Summary {
  return {
    sessions: 0,
    seconds: 0,
    disasters: {},
    ends: {},
    faults: {},
    requests: 0,
    captured: 0,
    held: 0,
    delayed: 0,
    spilled: 0,
    resized: 0,
    longestMs: 0,
    nearest: { longestMs: 0, boundMs: Number.POSITIVE_INFINITY, index: -1 },
    heldMaxMs: 0,
    memory: [],
    failures: [],
    wrong: [],
    folder: undefined,
  };
}

function add(summary: Summary, outcome: Outcome): void {
  const { plan, end, hits, report, longestMs, boundMs } = outcome;
  const count = (table: Record<string, number>, name: string, by = 1) => {
    table[name] = (table[name] ?? 0) + by;
  };
  summary.sessions += 1;
  count(summary.disasters, `${plan.driver} ${plan.disaster}`);
  count(summary.ends, end);
  for (const [name, times] of Object.entries(hits)) count(summary.faults, name, times);
  summary.requests += outcome.requests;
  summary.captured += report?.captured ?? 0;
  summary.held += report?.held ?? 0;
  summary.delayed += report?.delayed ?? 0;
  summary.spilled += report?.spilled ?? 0;
  summary.resized += report?.resizes.resized ?? 0;
  summary.longestMs = Math.max(summary.longestMs, longestMs);
  summary.heldMaxMs = Math.max(summary.heldMaxMs, report?.heldMaxMs ?? 0);
  const { nearest } = summary;
  if (longestMs / boundMs > nearest.longestMs / nearest.boundMs)
    summary.nearest = { longestMs, boundMs, index: plan.index };
  if (outcome.wrong.length > 0) summary.failures.push(outcome);
}

function addTrend(summary: Summary, process: string, samples: readonly number[]): void {
  if (samples.length < SAMPLES) return;
  const third = Math.floor(samples.length / 3);
  const trend = {
    process,
    samples: samples.length,
    second: median(samples.slice(third, 2 * third)),
    last: median(samples.slice(2 * third)),
  };
  summary.memory.push(trend);
  if (trend.last - trend.second > MEMORY_GROWTH) {
    summary.wrong.push(`the memory of ${process} grows: ${trend.second} to ${trend.last} bytes`);
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
