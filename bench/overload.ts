/**
 * Overload: a target that is slower than the writers, and a small container. Three fio at once, by NBD: the
 * first-touch writer (4 KiB into each fresh block, random order, QD16), a writer to blocks that are safe
 * already, and a reader (4 KiB random, QD1 each). Beside it QEMU's copy-before-write, whose target is
 * throttled to the same rate and which has no container.
 *
 * "No backup" is the same server and the same three fio, which share one processor; the first makes as many
 * writes a second as the target allows it in the other rows.
 */

import type { Benchmark, BenchmarkResult, Context, Goal } from './lib/context.js';
import { atLeast } from './lib/context.js';
import { type FioResult, fio, writeTouchList } from './lib/fio.js';
import { despiteHangUps } from './lib/hang-up.js';
import { startQsd, startSnapbak } from './lib/servers.js';
import { Session } from './lib/session.js';
import { median } from './lib/statistics.js';
import { figure, table } from './lib/table.js';

const OURS = 'snapbak';
const QEMU = 'QEMU copy-before-write';
const NONE = 'no backup';
const DEPTH = 16;
/** Where safe writes and reads go. */
const SAFE_BYTES = 4 * 2 ** 20;

interface Test {
  name: string;
  /** Of the target, bytes a second. */
  rate: number;
  /** Of ours. */
  container: number;
  seconds: number;
}

const TESTS: Test[] = [
  { name: '20 MiB/s', rate: 20 * 2 ** 20, container: 8 * 2 ** 20, seconds: 15 },
  { name: '512 KiB/s', rate: 512 * 2 ** 10, container: 2 * 2 ** 20, seconds: 20 },
];

interface Outcome {
  touch: FioResult;
  safe: FioResult;
  read: FioResult;
  /** Captured bytes to those that the target took in that time, container not counted. */
  bandwidth: number;
}

/** Blocks that a target of this rate needs `seconds` for. */
function blocksFor({ rate, seconds, container }: Test, { blockSize }: Context): number {
  return Math.floor((rate * seconds + container) / blockSize);
}

/** Reads or writes for so many seconds in the area that is safe. */
function settled(context: Context, socket: string, rw: 'randwrite' | 'randread', seconds: number) {
  const options = [`--rw=${rw}`, '--bs=4k', '--iodepth=1', `--size=${SAFE_BYTES}`];
  return fio({
    socket,
    cpu: context.cpus.client,
    options: [...options, '--time_based', `--runtime=${seconds}`],
  });
}

/** One write to each block that `choose` leaves. */
function touch(context: Context, socket: string, depth: number, choose: (blocks: number[]) => number[]) {
  const { workspace, imageSize, blockSize } = context;
  const list = workspace.unique('touch.log');
  writeTouchList(list, imageSize, blockSize, 4096, depth, 'nbd', choose);
  return fio({
    socket,
    cpu: context.cpus.client,
    options: [`--read_iolog=${list}`, `--iodepth=${depth}`],
  });
}

async function overload(context: Context, socket: string, test: Test, container: number): Promise<Outcome> {
  const { blockSize } = context;
  const safeBlocks = SAFE_BYTES / blockSize;
  await touch(context, socket, 1, (blocks) => blocks.filter((block) => block < safeBlocks));
  const blocks = blocksFor(test, context);
  const [writes, safe, read] = await Promise.all([
    touch(context, socket, DEPTH, (all) => all.filter((block) => block >= safeBlocks).slice(0, blocks)),
    settled(context, socket, 'randwrite', test.seconds),
    settled(context, socket, 'randread', test.seconds),
  ]);
  const captured = (blocks * blockSize - container) / writes.seconds;
  return { touch: writes, safe, read, bandwidth: captured / test.rate };
}

async function ours(context: Context, test: Test, serving: (said: () => string) => void): Promise<Outcome> {
  const server = await startSnapbak(context);
  serving(server.said);
  try {
    const session = await Session.start({
      control: server.control,
      target: context.workspace.unique('unused'),
      slotBytes: test.container,
      blockSize: context.blockSize,
      sweep: 'now',
      targetRate: test.rate,
    });
    try {
      return await overload(context, server.socket, test, test.container);
    } finally {
      await session.stop();
    }
  } finally {
    await server.stop();
  }
}

async function qemu(context: Context, test: Test): Promise<Outcome> {
  const server = await startQsd(context, 'cbw', test.rate);
  try {
    return await overload(context, server.socket, test, 0);
  } finally {
    await server.stop();
  }
}

/** The same three programs, the first of them at the pace that the target allows it. */
async function withoutBackup(context: Context, test: Test, serving: (said: () => string) => void) {
  const server = await startSnapbak(context);
  serving(server.said);
  try {
    const pace = ['--rw=randwrite', '--bs=4k', `--iodepth=${DEPTH}`, `--size=${SAFE_BYTES}`];
    pace.push(`--rate_iops=${Math.round(test.rate / context.blockSize)}`);
    const [safe, read] = await Promise.all([
      settled(context, server.socket, 'randwrite', test.seconds),
      settled(context, server.socket, 'randread', test.seconds),
      fio({
        socket: server.socket,
        cpu: context.cpus.client,
        options: [...pace, '--time_based', `--runtime=${test.seconds}`],
      }),
    ]);
    return { safe, read };
  } finally {
    await server.stop();
  }
}

type Part = 'touch' | 'safe' | 'read';
const PARTS: Record<Part, string> = { touch: 'first touch QD16', safe: 'safe blocks', read: 'reads' };

async function run(context: Context): Promise<BenchmarkResult> {
  const outcomes = new Map<string, Partial<Outcome>[]>();
  const add = (test: string, contender: string, outcome: Partial<Outcome>) => {
    const key = `${test}\t${contender}`;
    outcomes.set(key, [...(outcomes.get(key) ?? []), outcome]);
  };
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    for (const test of TESTS) {
      add(test.name, QEMU, await qemu(context, test));
      if (context.plugin === undefined) continue;
      add(test.name, NONE, await despiteHangUps(context, (serving) => withoutBackup(context, test, serving)));
      add(test.name, OURS, await despiteHangUps(context, (serving) => ours(context, test, serving)));
    }
  }
  const of = (test: string, contender: string, value: (outcome: Partial<Outcome>) => number) =>
    median((outcomes.get(`${test}\t${contender}`) ?? []).map(value));
  const rows = [...outcomes].flatMap(([key, samples]) => {
    const [test, contender] = key.split('\t') as [string, string];
    return (Object.keys(PARTS) as Part[]).flatMap((part) => {
      if (samples[0]?.[part] === undefined) return [];
      const cell = (value: (result: FioResult) => number) =>
        figure(of(test, contender, (outcome) => value(outcome[part]!)));
      return [
        [
          ...[test, contender, PARTS[part], cell((result) => result.iops)],
          ...[cell(({ p50 }) => p50 / 1000), cell(({ p99 }) => p99 / 1000), cell(({ max }) => max / 1000)],
          part === 'touch' ? `x${of(test, contender, ({ bandwidth }) => bandwidth!).toFixed(2)}` : '',
        ],
      ];
    });
  });
  const goals: Goal[] = [];
  if (context.plugin !== undefined) {
    const [{ name }] = TESTS as [Test];
    const stall = of(name, OURS, ({ touch: writes }) => writes!.max / writes!.p50);
    goals.push(
      atLeast(
        `${name}: captured bytes, to the target's rate`,
        of(name, OURS, ({ bandwidth }) => bandwidth!),
        0.9,
      ),
      {
        what: `${name}: longest stall of the first-touch writer, to its median`,
        measured: `x${stall.toFixed(2)}`,
        wanted: '< x5',
        met: stall < 5,
      },
    );
    for (const test of TESTS) {
      const speed = (contender: string) => of(test.name, contender, ({ safe }) => safe!.iops);
      goals.push(
        atLeast(
          `${test.name}: writes to safe blocks, to those without a backup`,
          speed(OURS) / speed(NONE),
          0.9,
        ),
      );
    }
  }
  const header = [
    'target',
    'contender',
    'requests',
    'IOPS',
    'p50 ms',
    'p99 ms',
    'longest ms',
    'of the target',
  ];
  return {
    tables: [{ title: 'A slow target, a small container', text: table(header, rows) }],
    goals,
    samples: Object.fromEntries(outcomes),
  };
}

export const overloaded: Benchmark = { name: 'overload', title: 'Writers faster than the target', run };
