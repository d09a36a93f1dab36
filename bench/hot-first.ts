/**
 * The order of the sweep: ascending, or hot-first. fio makes 20,000 writes of 4 KiB, so that the driver has
 * seen some; a second fio goes on in the same way, with other numbers drawn, at a steady pace from before the
 * start until the backup's end. The sweep is limited, so that the backup takes as long in either order. What
 * counts is how many blocks had to be captured, which no other load on the machine changes much, and how long
 * the writes took of the time in which an ascending sweep would go through the whole image.
 *
 * That writers go on as they did is what the order relies on. Of uniform writes the past tells nothing.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BackupStats } from '../lib/index.js';
import { atMost, type Benchmark, type BenchmarkResult, type Context } from './lib/context.js';
import { fio } from './lib/fio.js';
import { despiteHangUps } from './lib/hang-up.js';
import { Child } from './lib/processes.js';
import { startSnapbak } from './lib/servers.js';
import { Session } from './lib/session.js';
import { median, ratio } from './lib/statistics.js';
import { figure, table } from './lib/table.js';

const ORDERS = ['ascending', 'hot-first'] as const;
type Order = (typeof ORDERS)[number];

/** Where fio writes, and how many times a second. */
interface Writer {
  name: string;
  distribution: string;
  pace: number;
  /** Captures, hot-first to ascending, at most. */
  wanted: number;
}

const WRITERS: Writer[] = [
  { name: '90 % to a tenth, 500/s', distribution: 'zoned:5/45:90/10:5/45', pace: 500, wanted: 0.5 },
  { name: 'zipf 1.2, 500/s', distribution: 'zipf:1.2:0.5', pace: 500, wanted: 0.75 },
  { name: 'zipf 1.2, 2000/s', distribution: 'zipf:1.2:0.5', pace: 2000, wanted: 0.9 },
  { name: 'uniform, 500/s', distribution: 'random', pace: 500, wanted: 1.1 },
];

/** What the driver has seen before. */
const SEEN = 20_000;
/** What a sweep of the whole image takes. */
const SWEEP_MS = 8000;

interface Sample {
  /** Writes a second, in the time of the sweep: a busy machine does not reach the pace. */
  pace: number;
  captured: number;
  /** Of all blocks. */
  part: number;
  /** Of the writes in the time of the sweep, microseconds. */
  mean: number;
  p99: number;
}

/** The same places are hot whatever the seed: of zipf, fio would take them from the seed without a centre. */
function writes(context: Context, { distribution }: Writer, seed: number): string[] {
  const places = [`--size=${context.imageSize}`, `--random_distribution=${distribution}`, '--norandommap'];
  // without --randrepeat=0, fio draws the same numbers whatever the seed
  return ['--rw=randwrite', '--bs=4k', '--iodepth=4', ...places, '--randrepeat=0', `--randseed=${seed}`];
}

/** Writes until it is stopped, and notes when each write was done and how long it took. */
function startWriter(context: Context, socket: string, writer: Writer, log: string): Child {
  const nbd = ['--name=writer', '--thread', '--ioengine=nbd', `--uri=nbd+unix:///?socket=${socket}`];
  const pace = [`--rate_iops=${writer.pace}`, '--time_based', '--runtime=600'];
  const logs = [`--write_lat_log=${log}`, '--log_unix_epoch=1'];
  const command = ['fio', ...nbd, ...writes(context, writer, 2), ...pace, ...logs];
  return new Child('fio', command, { cpu: context.cpus.client });
}

/** Microseconds of the writes that were done between two times, milliseconds since the epoch; ascending. */
function latencies(log: string, from: number, to: number): number[] {
  const lines = readFileSync(`${log}_clat.1.log`, 'utf8').trimEnd().split('\n');
  return lines
    .map((line) => line.split(',').map(Number))
    .filter(([at]) => at !== undefined && at >= from && at < to)
    .map(([, ns]) => ns! / 1000)
    .sort((a, b) => a - b);
}

async function sample(
  context: Context,
  wanted: Writer,
  order: Order,
  serving: (said: () => string) => void,
): Promise<Sample> {
  const { workspace, imageSize, blockSize } = context;
  const server = await startSnapbak(context);
  serving(server.said);
  const log = workspace.unique('writes');
  let writer: Child | undefined;
  try {
    const seen = [...writes(context, wanted, 1), `--number_ios=${SEEN}`];
    await fio({ socket: server.socket, cpu: context.cpus.client, options: seen });
    writer = startWriter(context, server.socket, wanted, log);
    const session = await Session.start({
      control: server.control,
      target: join(workspace.freshDirectory('backup'), 'hot'),
      blockSize,
      sweep: 'now',
      rate: Math.round((imageSize * 1000) / SWEEP_MS),
      order,
      latencyGoal: 'none',
    });
    try {
      const from = Date.now();
      const { writers } = (await session.finished()).stats as BackupStats;
      if (!writer.running) throw new Error(`fio ended too early: ${writer.said}`);
      await writer.stop(); // it writes its log
      const us = latencies(log, from, from + SWEEP_MS);
      if (us.length < (wanted.pace * SWEEP_MS) / 10_000)
        throw new Error(`only ${us.length} writes in the sweep`);
      return {
        pace: (us.length * 1000) / SWEEP_MS,
        captured: writers.captured,
        part: writers.captured / Math.ceil(imageSize / blockSize),
        mean: us.reduce((sum, one) => sum + one, 0) / us.length,
        p99: us[Math.floor(us.length * 0.99)]!,
      };
    } finally {
      await session.stop();
    }
  } finally {
    await writer?.stop();
    await server.stop();
    for (const kind of ['clat', 'slat', 'lat']) rmSync(`${log}_${kind}.1.log`, { force: true });
    workspace.remove('backup');
  }
}

async function run(context: Context): Promise<BenchmarkResult> {
  if (context.plugin === undefined || !existsSync(context.plugin))
    return { tables: [], goals: [], samples: {} };
  const samples = new Map<string, Sample[]>();
  const of = (writer: string, order: Order) => samples.get(`${writer}\t${order}`) ?? [];
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    for (const writer of WRITERS) {
      const { name } = writer;
      // the one that goes first in this round goes second in the next
      for (const order of round % 2 === 1 ? ORDERS : [...ORDERS].reverse()) {
        const one = await despiteHangUps(context, (serving) => sample(context, writer, order, serving));
        samples.set(`${name}\t${order}`, [...of(name, order), one]);
      }
    }
  }
  const compared = (writer: string, value: (sample: Sample) => number) =>
    ratio(of(writer, 'hot-first').map(value), of(writer, 'ascending').map(value));
  const rows = WRITERS.flatMap(({ name }) =>
    ORDERS.map((order) => {
      const cell = (value: (sample: Sample) => number) => figure(median(of(name, order).map(value)));
      const times = (value: (sample: Sample) => number) =>
        order === 'ascending' ? '' : `x${compared(name, value).toFixed(2)}`;
      return [
        ...[name, order, cell(({ pace }) => pace), cell(({ captured }) => captured)],
        `${cell(({ part }) => part * 100)} %`,
        times(({ captured }) => captured),
        ...[cell(({ mean }) => mean), times(({ mean }) => mean)],
        ...[cell(({ p99 }) => p99), times(({ p99 }) => p99)],
      ];
    }),
  );
  const captured = ({ captured }: Sample) => captured;
  return {
    tables: [
      {
        title: 'Captured blocks by order of the sweep',
        text: table(
          [
            ...[
              'writer',
              'order',
              'writes/s',
              'captured',
              'of all',
              'ratio',
              'mean us',
              'ratio',
              'p99 us',
              'ratio',
            ],
          ],
          rows,
        ),
      },
    ],
    goals: WRITERS.map(({ name, wanted }) =>
      atMost(`${name}: blocks captured, hot-first to ascending`, compared(name, captured), wanted, 'times'),
    ),
    samples: Object.fromEntries(samples),
    notes: [
      `after ${SEEN} writes that the driver has seen; the sweep is limited to the image in ${SWEEP_MS / 1000} s`,
    ],
  };
}

export const hotFirst: Benchmark = { name: 'hot-first', title: 'The order of the sweep', run };
