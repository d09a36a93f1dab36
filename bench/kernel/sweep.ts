/**
 * A backup by sweep, without writers, beside `dd bs=4M iflag=direct`: all read the same origin and write a new
 * file on the same ext4, and all have synced it when their time ends.
 *
 * "consumer" is the driver with the least that a library can be (one thread, as dd); "snapbak backup" is the
 * real one, whose start of Node.js takes long in the guest and is told apart.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { BenchmarkResult, Goal } from '../lib/context.js';
import { atLeast } from '../lib/context.js';
import { timed } from '../lib/processes.js';
import { median, ratio, spread } from '../lib/statistics.js';
import { figure, table } from '../lib/table.js';
import type { GuestContext, KernelBenchmark } from './lib/benchmark.js';
import { bytesOf, command, MiB, mapped } from './lib/devices.js';
import { Consumer } from './lib/programs.js';

const LOWER = 'dd of the lower device';
const DD = 'dd bs=4M iflag=direct';
const CONSUMER = 'consumer, from START to synced';
const BACKUP = 'snapbak backup, started to finished';
const COMMAND = 'snapbak backup, whole command';

const IMAGE_BYTES = 1024 * MiB;

/** Seconds of `snapbak backup` from its "started" to its "finished", and of the whole command. */
async function backup(
  cli: string,
  origin: string,
  target: string,
): Promise<{ session: number; whole: number }> {
  const begin = performance.now();
  const child: ChildProcess = spawn(process.execPath, [cli, 'backup', origin, target, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let started = Number.NaN;
  let finished = Number.NaN;
  for await (const line of createInterface({ input: child.stdout! })) {
    const { event } = JSON.parse(line) as { event: string };
    if (event === 'started') started = performance.now();
    if (event === 'finished') finished = performance.now();
  }
  const [code] = await ended;
  if (code !== 0 || !(finished > started)) throw new Error(`snapbak backup ended with ${code}`);
  return { session: (finished - started) / 1000, whole: (performance.now() - begin) / 1000 };
}

async function run(context: GuestContext): Promise<BenchmarkResult> {
  const directory = mkdtempSync(join(tmpdir(), 'sink-'));
  command('mkfs.ext4', '-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', '/dev/vdb');
  command('mount', '/dev/vdb', directory);
  const origin = mapped('sweep', 'snapbak', '/dev/vda', 0);
  const copy = join(directory, 'copy.img');
  const dd = (from: string) =>
    timed(['dd', `if=${from}`, `of=${copy}`, 'bs=4M', 'iflag=direct', 'conv=fsync', 'status=none']);
  const seconds = new Map<string, number[]>();
  const add = (contender: string, value: number) => {
    seconds.set(contender, [...(seconds.get(contender) ?? []), value]);
    rmSync(copy, { recursive: true });
    command('sync');
  };
  // the first copy allocates the pages of the host's file below the sink: not counted
  await dd('/dev/vda');
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    add(LOWER, await dd('/dev/vda'));
    add(DD, await dd(origin));
    const consumer = await Consumer.start(origin, '--sweep', copy);
    const copied = await consumer.copied();
    await consumer.end();
    add(CONSUMER, copied);
    const { session, whole } = await backup(context.cli, origin, copy);
    seconds.set(COMMAND, [...(seconds.get(COMMAND) ?? []), whole]);
    add(BACKUP, session);
  }
  const of = (contender: string) => seconds.get(contender) ?? [];
  const rows = [...seconds].map(([contender, values]) => [
    contender,
    median(values).toFixed(3),
    figure(bytesOf(origin) / MiB / median(values)),
    `${Math.round(spread(values))} %`,
    `x${ratio(of(DD), values).toFixed(2)}`,
  ]);
  const goals: Goal[] = [CONSUMER, BACKUP].map((contender) =>
    atLeast(`${contender}: speed, to dd`, ratio(of(DD), of(contender)), 0.95),
  );
  return {
    tables: [
      {
        title: `Sweep of ${IMAGE_BYTES / MiB} MiB into a file, no writers`,
        text: table(['contender', 'seconds', 'MiB/s', 'spread', 'speed to dd'], rows),
      },
    ],
    goals,
    samples: Object.fromEntries(seconds),
  };
}

export const sweep: KernelBenchmark = {
  name: 'sweep',
  title: 'A backup by sweep, beside dd',
  machine: {
    cpus: 2,
    memoryMiB: 3072,
    disks: [
      { bytes: IMAGE_BYTES, content: 'random' },
      { bytes: 2 * IMAGE_BYTES, content: 'nothing' },
    ],
  },
  run,
};
