/**
 * First-touch writes while the backup itself runs on the same CPU as the server: our sweep and drain, against
 * QEMU's backup job in both of its set-ups. All write to tmpfs and are let go when fio begins. At full speed
 * a copy is ahead of many of the writes; at a limited rate most writes still are the first.
 */
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { holdSession, touchTests } from './first-touch.js';
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { atLeast } from './lib/context.js';
import { type FioResult, fio } from './lib/fio.js';
import { despiteHangUps } from './lib/hang-up.js';
import { Samples } from './lib/samples.js';
import { type QsdKind, startQsd, startSnapbak } from './lib/servers.js';
import { median } from './lib/statistics.js';
import { figure, table } from './lib/table.js';

const JOB = 'qsd backup job, sync=full';
const FLEECING = 'qsd cbw + job from snapshot-access';
const OURS = 'snapbak sweep + drain';
const QEMU: Record<string, QsdKind> = { [JOB]: 'backup-job', [FLEECING]: 'cbw-fleecing' };

/** Bytes a second that a copy may make in the limited test. */
const RATE = 256 * 2 ** 20;

interface Test {
  options: string[];
  rate?: number;
}

interface Outcome {
  writes: FioResult;
  /** Of the copy; undefined where its end is not waited for. */
  seconds: number | undefined;
}

/**
 * Runs fio, and `copy` from fio's first write on, which shows in the image's time of modification: a copy that
 * begins before would find fewer first writes the faster it is. A limited copy is not run to its end.
 */
async function together(
  context: Context,
  socket: string,
  { options, rate }: Test,
  copy: () => Promise<number>,
): Promise<Outcome> {
  const modified = () => statSync(context.image, { bigint: true }).mtimeNs;
  const before = modified();
  let fioOver = false;
  const writes = fio({ socket, cpu: context.cpus.client, options }).finally(() => {
    fioOver = true;
  });
  const copied = (async () => {
    while (modified() === before && !fioOver) await sleep(1);
    return await copy();
  })();
  if (rate === undefined) {
    const [result, seconds] = await Promise.all([writes, copied]);
    return { writes: result, seconds };
  }
  // while fio runs, a copy that fails counts; what becomes of it afterwards does not
  const failed = new Promise<never>((_, reject) => {
    copied.catch((error: unknown) => fioOver || reject(error));
  });
  return { writes: await Promise.race([writes, failed]), seconds: undefined };
}

/** One session of ours, with sweep and drain beside fio. */
async function ours(context: Context, test: Test, serving: (said: () => string) => void): Promise<Outcome> {
  const server = await startSnapbak(context);
  serving(server.said);
  try {
    const session = await holdSession(context, server.control, test.rate);
    try {
      return await together(context, server.socket, test, async () => {
        session.resume();
        return (await session.finished()).sweepSeconds;
      });
    } finally {
      await session.stop();
    }
  } finally {
    await server.stop();
  }
}

async function run(context: Context): Promise<BenchmarkResult> {
  const samples = new Samples();
  const times = new Map<string, number[]>();
  const { 'wc4k QD16': wc4k, 'ft64k QD16': ft64k } = touchTests(context);
  const tests: Record<string, Test> = {
    'wc4k QD16': { options: wc4k! },
    'ft64k QD16': { options: ft64k! },
    'wc4k QD16, copy at 256 MiB/s': { options: wc4k!, rate: RATE },
  };
  const add = (test: string, contender: string, outcome: Outcome) => {
    samples.add(test, contender, outcome.writes);
    if (outcome.seconds === undefined) return;
    const key = `${test}\t${contender}`;
    times.set(key, [...(times.get(key) ?? []), outcome.seconds]);
  };
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    for (const [name, test] of Object.entries(tests)) {
      for (const [contender, kind] of Object.entries(QEMU)) {
        const server = await startQsd(context, kind);
        add(name, contender, await together(context, server.socket, test, () => server.backup(test.rate)));
        await server.stop();
      }
      if (context.plugin === undefined) continue;
      add(name, OURS, await despiteHangUps(context, (serving) => ours(context, test, serving)));
    }
  }
  context.workspace.remove('backup', 'touch.log');
  const seconds = [...times].map(([key, values]) => [...key.split('\t'), figure(median(values))]);
  return {
    tables: [
      { title: 'Writes', text: samples.table({ 'qsd job': JOB, 'qsd fleecing': FLEECING }) },
      { title: 'The backup meanwhile', text: table(['test', 'contender', 'seconds'], seconds) },
    ],
    goals:
      context.plugin === undefined
        ? []
        : Object.keys(tests).map((test) =>
            atLeast(
              `${test} beside sweep and drain, to the better of QEMU's`,
              Math.min(...Object.keys(QEMU).map((base) => samples.ratio(test, OURS, base))),
              2,
            ),
          ),
    samples: { writes: samples, backupSeconds: Object.fromEntries(times) },
  };
}

export const beside: Benchmark = {
  name: 'beside',
  title: 'First-touch writes beside the running backup',
  run,
};
