/**
 * The model test: random devices, block lists, writers, sweep orders, small
 * containers, spills and aborts on the embedded driver. After each run the
 * backup equals the start instant over the list, the origin equals the last
 * writes, and no write was left held.
 *
 * fast-check draws the plan; the threads that carry it out run free, so a plan
 * that failed may need several runs to fail again: it is printed with its seed.
 */
import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { binding, type NativeNotice, type NativeOrigin, type NativeSession } from '../../lib/binding.js';
import { Cleanup } from '../helpers/cleanup.js';
import { ModelDisk, patternBytes } from '../helpers/model-disk.js';

type Operation = { kind: 'write' | 'zero' | 'discard'; at: number; length: number; seed: number };

interface Plan {
  blockSize: number;
  blocks: number;
  /** Bytes missing from the last block. */
  short: number;
  /** Areas of the initial image that are zero, as fractions. */
  holes: [number, number][];
  /** `undefined`: all. */
  list: [number, number][] | undefined;
  slots: number;
  tier2Blocks: number;
  watermarkLow: number;
  drainTo: number;
  maxDelayUs: number;
  copyThreads: number;
  /** One program of operations a writer; writers own alternate sectors, so their bytes never overlap. */
  writers: Operation[][];
  /** The order of the sweep: start and length as fractions, and the lane. */
  sweep: { from: number; length: number; priority: boolean }[];
  /** Abort after so many milliseconds, if at all. */
  abortAfter: number | undefined;
  /** A second backup follows the first on the same origin. */
  again: boolean;
}

const fraction = fc.integer({ min: 0, max: 999 }).map((n) => n / 1000);
const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'zero', 'discard'),
  at: fraction,
  length: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 40000 })),
  seed: fc.nat(),
});
const plan: fc.Arbitrary<Plan> = fc.record({
  blockSize: fc.constantFrom(4096, 8192, 16384),
  blocks: fc.integer({ min: 1, max: 150 }),
  short: fc.integer({ min: 0, max: 4000 }),
  holes: fc.array(fc.tuple(fraction, fraction), { maxLength: 3 }),
  list: fc.option(fc.array(fc.tuple(fraction, fraction), { minLength: 1, maxLength: 6 }), { nil: undefined }),
  slots: fc.integer({ min: 1, max: 12 }),
  tier2Blocks: fc.constantFrom(0, 0, 1, 4, 20),
  watermarkLow: fc.integer({ min: 0, max: 6 }),
  drainTo: fc.integer({ min: 6, max: 12 }),
  maxDelayUs: fc.constantFrom(0, 100, 2000),
  copyThreads: fc.integer({ min: 1, max: 3 }),
  writers: fc.array(fc.array(operation, { maxLength: 30 }), { minLength: 1, maxLength: 5 }),
  sweep: fc.array(fc.record({ from: fraction, length: fraction, priority: fc.boolean() }), { maxLength: 12 }),
  abortAfter: fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined, freq: 4 }),
  again: fc.boolean(),
});

/** Extents of `size` from fractions. */
function extentsOf(fractions: readonly (readonly [number, number])[], size: number): [number, number][] {
  return fractions.map(([from, length]) => {
    const offset = Math.floor(from * size);
    return [offset, Math.max(1, Math.floor(length * (size - offset)))];
  });
}

/** Runs a writer's program over the sectors that are its own; tells the model before each operation. */
async function runWriter(
  origin: NativeOrigin,
  model: ModelDisk,
  program: readonly Operation[],
  writer: number,
  writers: number,
): Promise<void> {
  const size = model.bytes.length;
  for (const { kind, at, length, seed } of program) {
    // whole operation within one of the writer's own stripes, of varied size
    const stripe = Math.max(1, Math.ceil(size / (writers * 4)));
    const own = Math.floor(at * 4) * writers + writer;
    const begin = own * stripe;
    const end = Math.min(size, begin + stripe);
    if (begin >= end) continue;
    const offset = begin + (seed % (end - begin));
    const bytes = Math.min(length, end - offset);
    if (kind === 'write') {
      const data = patternBytes(bytes, seed);
      model.write(offset, data);
      await origin.write(offset, data, seed % 5 === 0);
    } else if (kind === 'zero') {
      model.zero(offset, bytes);
      await origin.writeZeroes(offset, bytes, false, seed % 2 === 0);
    } else {
      model.discard(offset, bytes);
      await origin.discard(offset, bytes);
    }
  }
}

interface Copy {
  session: NativeSession;
  image: string;
  ended: Promise<NativeNotice>;
  close(): Promise<void>;
}

async function prepare(origin: NativeOrigin, drawn: Plan, folder: string, name: string): Promise<Copy> {
  const native = binding();
  const image = join(folder, `${name}.img`);
  const fds = [openSync(image, 'w+'), openSync(join(folder, `${name}.sums`), 'w+')];
  ftruncateSync(fds[0]!, origin.size);
  let tier2: { fd: number; direct: boolean; capacity: number } | undefined;
  if (drawn.tier2Blocks > 0) {
    const fd = openSync(join(folder, `${name}.tier2`), 'w+');
    fds.push(fd);
    const capacity = drawn.tier2Blocks * drawn.blockSize;
    await native.preallocate(fd, capacity);
    tier2 = { fd, direct: false, capacity };
  }
  const session = native.createSession({ origin });
  await session.open();
  let end: (notice: NativeNotice) => void;
  const ended = new Promise<NativeNotice>((resolve) => {
    end = resolve;
  });
  await session.prepare({
    blockSize: drawn.blockSize,
    slots: drawn.slots,
    onFull: 'hold',
    holdTimeoutMs: 60_000,
    listed: new Float64Array((drawn.list ? extentsOf(drawn.list, origin.size) : [[0, origin.size]]).flat()),
    target: { fd: fds[0]!, fresh: true },
    checksumsFd: fds[1]!,
    tiers: tier2 === undefined ? [] : [tier2],
    stallTimeoutMs: 60_000,
    watermarkLow: drawn.watermarkLow,
    drainTo: drawn.drainTo,
    copyThreads: drawn.copyThreads,
    readBytes: 65536,
    onNotice: (notice) => {
      // the scheduler's duty, at its simplest: whatever is left, ascending
      if (notice.kind === 'need-work') session.pushWork(new Float64Array([0, origin.size]), false);
      else end(notice);
    },
  });
  const close = async () => {
    await session.close();
    for (const fd of fds) closeSync(fd);
  };
  return { session, image, ended, close };
}

/** The list over which a backup must be right: whole blocks. */
function listedBytes(drawn: Plan, size: number): Uint8Array {
  const listed = new Uint8Array(size);
  const extents = drawn.list ? extentsOf(drawn.list, size) : [[0, size] as [number, number]];
  for (const [offset, length] of extents) {
    const begin = Math.floor(offset / drawn.blockSize) * drawn.blockSize;
    const end = Math.min(size, Math.ceil((offset + length) / drawn.blockSize) * drawn.blockSize);
    listed.fill(1, begin, end);
  }
  return listed;
}

async function runPlan(drawn: Plan, folder: string): Promise<void> {
  const size = drawn.blocks * drawn.blockSize - Math.min(drawn.short, drawn.blockSize - 1);
  const initial = patternBytes(size, drawn.blocks);
  for (const [offset, length] of extentsOf(drawn.holes, size)) initial.fill(0, offset, offset + length);
  const path = join(folder, 'origin.img');
  writeFileSync(path, initial);
  const origin = await binding().openOrigin(path, false);
  const model = new ModelDisk(initial);
  try {
    for (const round of drawn.again ? [0, 1] : [0]) {
      const copy = await prepare(origin, drawn, folder, `backup${round}`);
      // no writer runs between here and start(), so the origin now is the start instant
      const instant = await origin.read(0, size);
      copy.session.setThrottle({ begin: 1, full: drawn.slots, rate: 2 ** 24, maxUs: drawn.maxDelayUs });
      await copy.session.start(10_000);
      const writing = drawn.writers.map((program, writer) =>
        runWriter(origin, model, program, writer, drawn.writers.length),
      );
      for (const { from, length, priority } of drawn.sweep) {
        copy.session.pushWork(new Float64Array(extentsOf([[from, length]], size).flat()), priority);
      }
      let aborted = false;
      if (drawn.abortAfter !== undefined) {
        await new Promise((resolve) => setTimeout(resolve, drawn.abortAfter));
        await copy.session.abort();
        aborted = true;
      }
      // every write returns, or this test runs into its time limit
      await Promise.all(writing);
      const end = aborted ? undefined : await copy.ended;
      if (end !== undefined) {
        assert.deepEqual(end.kind, 'complete');
        await copy.session.finish();
        const stats = copy.session.stats();
        assert.equal(stats.counters.heldNow, 0);
        assert.equal(stats.doneBlocks, stats.listedBlocks);
        const backup = readFileSync(copy.image);
        const listed = listedBytes(drawn, size);
        for (let i = 0; i < size; i++) {
          if (listed[i] === 1 && backup[i] !== instant[i]) {
            assert.fail(`backup ${round} differs from the start instant at byte ${i}`);
          }
        }
      }
      await copy.close();
      const now = await origin.read(0, size);
      const difference = model.firstDifference(now);
      assert.equal(difference, undefined, `the origin lost a write at byte ${difference}`);
    }
  } finally {
    await origin.close();
  }
}

describe('the model: any interleaving of writes, sweeps, drains and aborts', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('gives a backup of the start instant and an origin with every write', async function () {
    this.timeout(300_000);
    const folder = cleanup.folder('model');
    await fc.assert(
      fc.asyncProperty(plan, (drawn) => runPlan(drawn, folder)),
      // the time of one plan: what hangs is told with its seed
      { numRuns: 400, endOnFailure: true, timeout: 60_000 },
    );
  });
});
