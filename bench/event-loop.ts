/**
 * How late the JavaScript thread is during a backup: the time between two ticks of a 1 ms timer in the
 * process that runs it (so 1 ms is the best there is), without writers and with one, on all CPUs and with
 * everything but fio on one CPU.
 */
import { join } from 'node:path';
import { touchTests } from './first-touch.js';
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { atMost } from './lib/context.js';
import { fio } from './lib/fio.js';
import { despiteHangUps } from './lib/hang-up.js';
import { startSnapbak } from './lib/servers.js';
import { Session } from './lib/session.js';
import { median } from './lib/statistics.js';
import { figure, table } from './lib/table.js';

/** A common container: small, so that it fills while a writer is busy. */
const SLOT_BYTES = 64 << 20;

interface Case {
  name: string;
  writer: boolean;
  pinned: boolean;
}

const CASES: Case[] = [
  { name: 'no writer', writer: false, pinned: false },
  { name: 'wc4k QD16 beside', writer: true, pinned: false },
  { name: 'wc4k QD16 beside, on the CPU of the server', writer: true, pinned: true },
];

interface Loop {
  p50: number;
  p99: number;
  max: number;
}

async function measure(
  context: Context,
  options: string[],
  { writer, pinned }: Case,
  serving: (said: () => string) => void,
): Promise<Loop> {
  const server = await startSnapbak(context, { pinned });
  serving(server.said);
  try {
    const target = join(context.workspace.freshDirectory('backup'), 'loop');
    const session = await Session.start(
      { control: server.control, target, slotBytes: SLOT_BYTES, blockSize: context.blockSize, sweep: 'now' },
      pinned ? context.cpus.server : undefined,
    );
    try {
      const [{ loop }] = await Promise.all([
        session.finished(),
        writer ? fio({ socket: server.socket, cpu: context.cpus.client, options }) : undefined,
      ]);
      return loop;
    } finally {
      await session.stop();
    }
  } finally {
    await server.stop();
    context.workspace.remove('backup');
  }
}

async function run(context: Context): Promise<BenchmarkResult> {
  if (context.plugin === undefined) return { tables: [], goals: [], samples: {} };
  const loops = new Map<string, Loop[]>(CASES.map(({ name }) => [name, []]));
  const options = touchTests(context)['wc4k QD16']!;
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    for (const one of CASES) {
      const loop = await despiteHangUps(context, (serving) => measure(context, options, one, serving));
      loops.get(one.name)?.push(loop);
    }
  }
  context.workspace.remove('touch.log');
  const of = (name: string, pick: (loop: Loop) => number) => median((loops.get(name) ?? []).map(pick));
  const rows = CASES.map(({ name }) => [
    name,
    figure(of(name, (loop) => loop.p50)),
    figure(of(name, (loop) => loop.p99)),
    figure(of(name, (loop) => loop.max)),
  ]);
  return {
    tables: [{ title: 'Event loop, ms', text: table(['backup', 'p50', 'p99', 'longest'], rows) }],
    goals: CASES.map(({ name }) =>
      atMost(
        `event loop p99, ${name}`,
        of(name, (loop) => loop.p99),
        10,
        'ms',
      ),
    ),
    samples: Object.fromEntries(loops),
  };
}

export const eventLoop: Benchmark = {
  name: 'event-loop',
  title: 'Event-loop delay during a backup',
  run,
};
