/**
 * How long START stops writes, and how long it freezes file systems: the same for 1 TiB as for 16 GiB. The
 * disks are thin (null_blk allocates a page when it is written), the file systems new and mounted.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchmarkResult, Goal } from '../lib/context.js';
import { atMost } from '../lib/context.js';
import { Child } from '../lib/processes.js';
import { median } from '../lib/statistics.js';
import { table } from '../lib/table.js';
import type { GuestContext, KernelBenchmark } from './lib/benchmark.js';
import { command, countsOf, MiB, mapped, nullDisk } from './lib/devices.js';
import { PROGRAMS, Sessions } from './lib/programs.js';
import { Series } from './lib/series.js';

const SIZES = { '16 GiB': 16 * 1024 * MiB, '1 TiB': 2 ** 20 * MiB };
const [SMALL, BIG] = Object.keys(SIZES) as ['16 GiB', '1 TiB'];
const NOTHING = 'nothing mounted';
const MOUNTED = 'ext4 mounted';
const WRITTEN = 'ext4 written to';

interface Sample {
  armMs: number;
  freezeMs: number;
  ioctlMs: number;
  /** FIFREEZE and FITHAW of the same file system, without a driver: what the kernel itself takes for it. */
  kernelMs: number;
}

const FIELDS = {
  armMs: 'writes stopped',
  freezeMs: 'frozen',
  ioctlMs: 'START',
  kernelMs: "kernel's own freeze",
} as const;

/** Less than this is no difference between two sizes, however alike their samples are. */
const LEAST_NOISE_MS = 1;

interface Origin {
  size: string;
  device: string;
  /** Where its file system is mounted. */
  directory?: string;
}

async function arm({ device, directory }: Origin): Promise<Sample> {
  const sessions = new Sessions(device);
  await sessions.setup();
  command('sync');
  const { armNs, freezeNs, ioctlNs } = await sessions.start();
  await sessions.end();
  await sessions.close();
  const kernelNs = directory === undefined ? Number.NaN : Number(command(`${PROGRAMS}/freeze`, directory));
  return {
    armMs: armNs / 1e6,
    freezeMs: freezeNs / 1e6,
    ioctlMs: ioctlNs / 1e6,
    kernelMs: kernelNs / 1e6,
  };
}

function mountNew({ device }: Origin): string {
  const directory = mkdtempSync(join(tmpdir(), 'arm-'));
  command('mkfs.ext4', '-q', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', device);
  // without the thread that initialises the tables of inodes in the background, for hours
  command('mount', '-o', 'noinit_itable', device, directory);
  return directory;
}

/** Random writes to a file, direct, four at a time, until stopped. */
async function startWriter({ device, directory }: Origin): Promise<Child> {
  const before = countsOf(device).writes;
  const child = new Child('fio', [
    'fio',
    '--name=writer',
    '--thread',
    `--filename=${directory}/written`,
    '--size=64M',
    '--rw=randwrite',
    '--bs=4k',
    '--ioengine=libaio',
    '--iodepth=4',
    '--direct=1',
    '--time_based',
    '--runtime=1h',
  ]);
  await child.until(() => countsOf(device).writes > before + 1000);
  return child;
}

async function run(context: GuestContext): Promise<BenchmarkResult> {
  const samples = new Series<Sample>();
  const origins: Origin[] = Object.entries(SIZES).map(([size, bytes], index) => ({
    size,
    device: mapped(`arm${index}`, 'snapbak', nullDisk(`nullb_arm${index}`, { bytes, keeps: 'memory' }), 0),
  }));
  const armAll = async (use: string) => {
    // twice as many rounds as asked for: they are short
    for (let round = 1; round <= context.rounds * 2; round += 1) {
      for (const origin of origins) samples.add(use, origin.size, await arm(origin));
    }
  };
  await armAll(NOTHING);
  for (const origin of origins) {
    context.log(`ext4 on ${origin.size}`);
    origin.directory = mountNew(origin);
  }
  await armAll(MOUNTED);
  const writers: Child[] = [];
  for (const origin of origins) writers.push(await startWriter(origin));
  await armAll(WRITTEN);
  for (const writer of writers) {
    if (!writer.running) throw new Error(`the writer ended: ${writer.said}`);
    await writer.stop();
  }

  const of = (use: string, size: string, field: keyof Sample) =>
    samples.of(use, size).map((one) => one[field]);
  const fields = Object.keys(FIELDS) as (keyof Sample)[];
  const cell = (value: number) => (Number.isNaN(value) ? '-' : value.toFixed(2));
  const rows = samples.tests().flatMap((use) =>
    samples.contenders(use).map((size) => [
      use,
      size,
      ...fields.flatMap((field) => {
        const values = of(use, size, field);
        return [cell(median(values)), cell(Math.max(...values))];
      }),
    ]),
  );
  const goals = samples.tests().flatMap((use) =>
    (['armMs', 'freezeMs'] as const).flatMap((field): Goal[] => {
      if (field === 'freezeMs' && use === NOTHING) return [];
      const big = median(of(use, BIG, field));
      const small = of(use, SMALL, field);
      const noise = Math.max(LEAST_NOISE_MS, Math.max(...small) - Math.min(...small));
      return [
        atMost(`${use}, ${BIG}: ${FIELDS[field]}`, big, 50, 'ms'),
        atMost(
          `${use}: ${FIELDS[field]}, more than at ${SMALL}`,
          big - median(small),
          Number(noise.toFixed(2)),
          'ms',
        ),
      ];
    }),
  );
  return {
    tables: [
      {
        title: 'START, milliseconds: median and longest',
        text: table(['use', 'size', ...fields.flatMap((field) => [FIELDS[field], 'longest'])], rows),
      },
    ],
    goals,
    samples,
    notes: [`"more than at ${SMALL}" is held against the range of the samples at ${SMALL}`],
  };
}

export const arming: KernelBenchmark = {
  name: 'arming',
  title: 'How long a start stops writes',
  machine: { cpus: 2, memoryMiB: 3072, disks: [] },
  run,
};
