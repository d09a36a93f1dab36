/**
 * First-touch writes during a session, beside dm-snapshot: one 4 KiB write into each fresh block, random
 * order. Both track blocks of the same size, and each gets the same devices, new, in each round.
 *
 * Our consumer takes each captured block out of its slot and gives the slot back at once; the contender
 * "stored" first writes it to the device that is dm-snapshot's store.
 */
import type { BenchmarkResult, Goal } from '../lib/context.js';
import { atLeast } from '../lib/context.js';
import { Samples } from '../lib/samples.js';
import type { GuestContext, KernelBenchmark } from './lib/benchmark.js';
import { command, countsOf, fill, MiB, mapped, nullDisk, SECTOR, unmap } from './lib/devices.js';
import { touch } from './lib/fio.js';
import { Consumer } from './lib/programs.js';

const LINEAR = 'dm-linear, no backup';
const SNAPSHOT = 'dm-snapshot, persistent';
const OURS = 'snapbak';
const STORED = 'snapbak, stored';

/** Enough for the blocks that are touched, and as much again for dm-snapshot's metadata. */
const DISK_BYTES = 256 * MiB;
const DELAY_MS = 5;
const DELAYED = `${DELAY_MS} ms delay`;
const VIRTIO = 'virtio';
const NULL_BLK = 'null_blk';
/** More than any test touches: what a full container does is no matter here. */
const SLOTS = ['--slots', '2560'];

/** What a contender works on. */
interface Bed {
  lower: string;
  store: string;
  /** Blocks that a test touches, by queue depth: about a second or two of the slowest contender. */
  blocks: Record<number, number>;
}

interface Sample {
  fio: Awaited<ReturnType<typeof touch>>;
  /** Of ours: reads of the lower device, and blocks captured. */
  reads?: number;
  readBytes?: number;
  captured?: number;
}

type Contender = (bed: Bed, depth: number, context: GuestContext) => Promise<Sample>;

function touchAll(device: string, bed: Bed, depth: number, context: GuestContext) {
  return touch({ device, blockSize: context.blockSize, blocks: bed.blocks[depth]!, depth });
}

const linear: Contender = async (bed, depth, context) => {
  const origin = mapped('touch', 'linear', bed.lower, 0);
  const fio = await touchAll(origin, bed, depth, context);
  unmap(origin);
  return { fio };
};

const snapshot: Contender = async (bed, depth, context) => {
  // a store that begins with zeroes is a new one
  command('dd', 'if=/dev/zero', `of=${bed.store}`, 'bs=64K', 'count=1', 'oflag=direct', 'status=none');
  const chunk = context.blockSize / SECTOR;
  const snap = mapped('snap', 'snapshot', bed.lower, bed.store, 'P', chunk);
  const origin = mapped('touch', 'snapshot-origin', bed.lower);
  const fio = await touchAll(origin, bed, depth, context);
  const used = Number(/ snapshot (\d+)\//.exec(command('dmsetup', 'status', snap))?.[1]);
  unmap(snap, origin);
  if (!(used >= bed.blocks[depth]! * chunk)) throw new Error(`dm-snapshot has copied ${used} sectors only`);
  return { fio };
};

function ours(options: (bed: Bed) => string[]): Contender {
  return async (bed, depth, context) => {
    const origin = mapped('touch', 'snapbak', bed.lower, 0);
    const consumer = await Consumer.start(origin, ...options(bed));
    const before = countsOf(bed.lower);
    const fio = await touchAll(origin, bed, depth, context);
    const after = countsOf(bed.lower);
    const { captured, held, delayed } = await consumer.end();
    unmap(origin);
    if (captured !== bed.blocks[depth])
      throw new Error(`${captured} blocks captured, ${bed.blocks[depth]} touched`);
    if (held + delayed > 0) context.log(`${held} writes were held and ${delayed} delayed: not enough slots`);
    return {
      fio,
      reads: after.reads - before.reads,
      readBytes: after.readBytes - before.readBytes,
      captured,
    };
  };
}

const CONTENDERS: Record<string, Contender> = {
  [LINEAR]: linear,
  [SNAPSHOT]: snapshot,
  [OURS]: ours(() => SLOTS),
  [STORED]: ours((bed) => [...SLOTS, '--store', bed.store]),
};

/** Origin and store in memory, filled. */
function memoryDisks(): [string, string] {
  const disk = (name: string) => nullDisk(name, { bytes: DISK_BYTES, keeps: 'memory' });
  const disks: [string, string] = [disk('nullb_origin'), disk('nullb_store')];
  for (const device of disks) fill(device);
  return disks;
}

/** Devices that take their time. */
function slowBeds(): Record<string, Bed> {
  const [origin, store] = memoryDisks();
  const [virtioOrigin, virtioStore] = ['/dev/vda', '/dev/vdb'] as const;
  for (const device of [virtioOrigin, virtioStore]) fill(device);
  return {
    [DELAYED]: {
      lower: mapped('slow_origin', 'delay', origin, 0, DELAY_MS),
      store: mapped('slow_store', 'delay', store, 0, DELAY_MS),
      blocks: { 1: 64, 16: 512 },
    },
    [VIRTIO]: { lower: virtioOrigin, store: virtioStore, blocks: { 1: 1024, 16: 2048 } },
  };
}

/** Devices that take none: they complete each request as it is submitted. */
function fastBeds(): Record<string, Bed> {
  const [lower, store] = memoryDisks();
  return { [NULL_BLK]: { lower, store, blocks: { 1: 512, 16: 512 } } };
}

/** What the lower device was read for captures, in all samples. */
interface Reads {
  reads: number;
  bytes: number;
  captured: number;
}

function readsGoal({ reads, bytes, captured }: Reads, blockSize: number): Goal {
  return {
    what: 'reads of the lower device a capture',
    measured: `${(reads / captured).toFixed(4)} of ${(bytes / captured / 1024).toFixed(2)} KiB`,
    wanted: `1 of ${blockSize / 1024} KiB`,
    met: reads === captured && bytes === captured * blockSize,
  };
}

async function measure(beds: Record<string, Bed>, rounds: number, context: GuestContext) {
  const samples = new Samples();
  const all: unknown[] = [];
  const total: Reads = { reads: 0, bytes: 0, captured: 0 };
  for (let round = 1; round <= rounds; round += 1) {
    context.log(`round ${round} of ${rounds}`);
    for (const [name, bed] of Object.entries(beds)) {
      for (const depth of Object.keys(bed.blocks).map(Number)) {
        for (const [contender, take] of Object.entries(CONTENDERS)) {
          const sample = await take(bed, depth, context);
          samples.add(`${name} QD${depth}`, contender, sample.fio);
          all.push({ round, bed: name, depth, contender, ...sample });
          total.reads += sample.reads ?? 0;
          total.bytes += sample.readBytes ?? 0;
          total.captured += sample.captured ?? 0;
        }
      }
    }
  }
  return { samples, all, reads: readsGoal(total, context.blockSize) };
}

function latencyGoal(samples: Samples, test: string, contender: string): Goal {
  const measured = samples.p50Ratio(test, contender, SNAPSHOT);
  return {
    what: `${test}, ${contender}: median latency, to dm-snapshot's`,
    measured: `x${measured.toFixed(2)}`,
    wanted: '<= x0.55',
    met: measured <= 0.55,
  };
}

function iopsGoal(samples: Samples, test: string, contender: string): Goal {
  return atLeast(
    `${test}, ${contender}: IOPS, to dm-snapshot's`,
    samples.ratio(test, contender, SNAPSHOT),
    2,
  );
}

function result(
  title: string,
  { samples, all, reads }: Awaited<ReturnType<typeof measure>>,
  goals: Goal[],
): BenchmarkResult {
  const text = samples.table({ linear: LINEAR, 'dm-snapshot': SNAPSHOT });
  return { tables: [{ title, text }], goals: [...goals, reads], samples: all };
}

export const firstTouch: KernelBenchmark = {
  name: 'first-touch',
  title: 'First-touch writes during a session, beside dm-snapshot',
  machine: {
    cpus: 2,
    memoryMiB: 2048,
    disks: [
      { bytes: DISK_BYTES, content: 'nothing' },
      { bytes: DISK_BYTES, content: 'nothing' },
    ],
  },
  async run(context) {
    const measured = await measure(slowBeds(), context.rounds, context);
    const { samples } = measured;
    const goals = [OURS, STORED].flatMap((contender) => [
      latencyGoal(samples, `${DELAYED} QD1`, contender),
      ...[`${DELAYED} QD16`, `${VIRTIO} QD1`, `${VIRTIO} QD16`].map((test) =>
        iopsGoal(samples, test, contender),
      ),
    ]);
    return result(this.title, measured, goals);
  },
};

/**
 * The same where devices take no time, and what counts is the way through the kernel: in a clock that counts
 * instructions (see settled.ts), on one processor, so that no round differs from another. fio's own are in it.
 */
export const firstTouchCost: KernelBenchmark = {
  name: 'first-touch-cost',
  title: 'First-touch writes on devices without delay: instructions, one a nanosecond',
  machine: { cpus: 1, memoryMiB: 1536, disks: [], countInstructions: true },
  async run(context) {
    const measured = await measure(fastBeds(), 2, context);
    const { samples } = measured;
    const goals = [OURS, STORED].flatMap((contender) =>
      [`${NULL_BLK} QD1`, `${NULL_BLK} QD16`].map((test) => iopsGoal(samples, test, contender)),
    );
    return result(this.title, measured, goals);
  },
};
