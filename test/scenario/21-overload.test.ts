// Writers that are faster than the target, and a container that is soon full:
// who needs a capture waits his turn, nobody else does, and the backup is good.
// (How good exactly is measured by bench/overload.ts; a machine with other work
// must pass here too.)
import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BackupOptions,
  type CustomTarget,
  type EmbeddedOrigin,
  memoryContainer,
  openEmbedded,
  startBackup,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { makeImage, stamped } from '../helpers/images.js';

const BLOCK = 65_536;
const BLOCKS = 768;
const SIZE = BLOCKS * BLOCK;
const WRITERS = 8;
/** Of the target, bytes a second: a block in 8 ms. */
const RATE = 8 * 2 ** 20;

/** Takes each write after the one before, and as long as its bytes take. */
class SlowTarget implements CustomTarget {
  readonly image = Buffer.alloc(SIZE);
  #free = performance.now();

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#free = Math.max(this.#free, performance.now()) + (data.length / RATE) * 1000;
    await sleep(this.#free - performance.now());
    this.image.set(data, offset);
  }
  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

/** Takes the first write, and never ends it. */
class StandingTarget implements CustomTarget {
  readonly begun: Promise<void>;
  #begin: () => void = () => {};

  constructor() {
    this.begun = new Promise((resolve) => {
      this.#begin = resolve;
    });
  }

  write(): Promise<void> {
    this.#begin();
    return new Promise(() => {});
  }
  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

interface Write {
  writer: number;
  /** Milliseconds since the first. */
  ended: number;
  took: number;
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;

describe('an origin whose writers are faster than the target', () => {
  let cleanup: Cleanup;
  let folder: string;
  let origin: EmbeddedOrigin;
  beforeEach(async () => {
    cleanup = new Cleanup();
    folder = cleanup.folder('overload');
    await makeImage(join(folder, 'disk.img'), SIZE);
    await copyFile(join(folder, 'disk.img'), join(folder, 'start.img'));
    origin = await openEmbedded(join(folder, 'disk.img'));
    cleanup.defer('close the origin', () => origin.close());
  });
  afterEach(() => cleanup.run());

  /** Writes to each fresh block once, eight at a time, the last blocks first: far from the sweep. */
  async function touchAll(blocks: number): Promise<Write[]> {
    const writes: Write[] = [];
    const begin = performance.now();
    let next = 0;
    const write = async (writer: number) => {
      while (next < blocks) {
        const block = BLOCKS - 1 - next++;
        const before = performance.now();
        await origin.write(block * BLOCK, stamped(block * BLOCK, 4096, 2));
        const now = performance.now();
        writes.push({ writer, ended: now - begin, took: now - before });
      }
    };
    await Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer)));
    return writes;
  }

  /** One write after the other to a block that is safe, until told to stop. */
  function keepWriting(block: number) {
    const took: number[] = [];
    let stopped = false;
    const ended = (async () => {
      while (!stopped) {
        const before = performance.now();
        await origin.write(block * BLOCK, stamped(block * BLOCK, 4096, 3));
        took.push(performance.now() - before);
        await sleep(5);
      }
    })();
    return async () => {
      stopped = true;
      await ended;
      return took;
    };
  }

  const begin = (target: CustomTarget, options: Partial<BackupOptions> = {}) =>
    startBackup({ origin, target, container: memoryContainer(32 * BLOCK), ...options });

  it('slows those down that need a capture, all alike, to the speed of the target', async () => {
    const target = new SlowTarget();
    const backup = await begin(target);
    await origin.write(0, stamped(0, 4096, 3));
    const stopSafe = keepWriting(0);
    const writes = await touchAll(400);
    const safe = await stopSafe();
    const { writers } = backup.stats();
    // what the container took at once is not the target's doing
    const throttled = writes.filter(({ ended }) => ended > 1000);
    const seconds = (writes.at(-1)!.ended - 1000) / 1000;
    const took = throttled.map((write) => write.took);

    assert.ok(writers.delayed > 100, `${writers.delayed} writes were delayed`);
    const share = (throttled.length * BLOCK) / seconds / RATE;
    assert.ok(share > 0.8, `captures got ${share.toFixed(2)} of the target's bandwidth`);
    const longest = Math.max(...took) / median(took);
    assert.ok(longest < 8, `the longest write took ${longest.toFixed(1)} times the median`);
    for (let writer = 0; writer < WRITERS; writer++) {
      const its = throttled.filter((write) => write.writer === writer).length / throttled.length;
      assert.ok(
        Math.abs(its * WRITERS - 1) < 0.3,
        `writer ${writer} has ${its} of ${throttled.length} writes`,
      );
    }
    assert.ok(
      median(safe) * 10 < median(took),
      `a write to a safe block took ${median(safe)} ms, to a fresh one ${median(took)} ms`,
    );
    await backup.finished;
    assert.ok(
      target.image.equals(await readFile(join(folder, 'start.img'))),
      'the image is not the start instant',
    );
  });

  it('only holds them where no delay is wanted, in the order in which they came', async () => {
    const target = new SlowTarget();
    const backup = await begin(target, { maxDelay: 0 });
    const writes = await touchAll(300);
    const { writers } = backup.stats();
    assert.equal(writers.delayed, 0);
    assert.ok(writers.held > 100, `${writers.held} writes were held`);
    const took = writes.filter(({ ended }) => ended > 1000).map((write) => write.took);
    const longest = Math.max(...took) / median(took);
    assert.ok(longest < 8, `the longest write took ${longest.toFixed(1)} times the median`);
    await backup.finished;
    assert.ok(
      target.image.equals(await readFile(join(folder, 'start.img'))),
      'the image is not the start instant',
    );
  });

  it('is let go when nothing at all is drained, though the policy is to hold', async () => {
    const target = new StandingTarget();
    const backup = await begin(target, { onFull: 'hold', holdTimeout: 100, stallTimeout: 700 });
    const finished = assert.rejects(backup.finished, {
      code: 'ERR_SNAPBAK_STALLED',
      message: /nothing was drained for 700 ms, while writes were held.*the origin is unharmed/,
    });
    await target.begun;
    const before = performance.now();
    await touchAll(60);
    const took = performance.now() - before;
    assert.ok(took >= 600, `the writes went on after ${took} ms`);
    await finished;
    assert.equal(backup.state, 'broken');
  });
});
