// Two second tiers behind a target that takes nothing: the first fails, the
// other goes on, grows and shrinks meanwhile. The backup is the start instant.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type BackupEvent,
  fileContainer,
  memoryContainer,
  openEmbedded,
  startBackup,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { faultyDevice } from '../helpers/faulty-device.js';
import { must, until } from '../helpers/programs.js';

const MiB = 2 ** 20;
const BLOCK = 65_536;
const SIZE = 32 * MiB;

/** A target in memory that takes nothing until it is opened, and then `bytesPerSecond`. */
class SlowTarget {
  readonly image = Buffer.alloc(SIZE);
  open!: (bytesPerSecond: number) => void;
  readonly #opened = new Promise<number>((resolve) => {
    this.open = resolve;
  });
  #free = 0;

  async write(offset: number, data: Buffer): Promise<void> {
    const rate = await this.#opened;
    const now = performance.now();
    this.#free = Math.max(this.#free, now) + (data.length * 1000) / rate;
    await new Promise((resolve) => setTimeout(resolve, this.#free - now));
    data.copy(this.image, offset);
  }

  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

/** Bytes of a file without a name that this process holds open. */
function namelessSize(path: string): number | undefined {
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const place = join('/proc/self/fd', fd);
      if (readlinkSync(place) === `${path} (deleted)`) return statSync(place).size;
    } catch {
      // the descriptor that lists the folder is gone again
    }
  }
  return undefined;
}

describe('two files behind the slots', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('one fails, the other grows and shrinks, and nobody notices but who listens', async () => {
    const device = await faultyDevice(cleanup, 16 * MiB);
    await must('mkfs.ext4', ['-q', device.path]);
    const mountPoint = cleanup.folder('mnt');
    await must('mount', [device.path, mountPoint]);
    cleanup.defer(`unmount ${mountPoint}`, () => must('umount', [mountPoint]));
    const folder = cleanup.folder('other');
    const first = join(mountPoint, 'first');
    const file = join(folder, 'second');
    const a = fileContainer(first, 4 * MiB);
    const b = fileContainer(file, 4 * MiB);

    const start = randomBytes(SIZE);
    const image = join(cleanup.folder('origin'), 'disk.img');
    writeFileSync(image, start);
    const origin = await openEmbedded(image);
    cleanup.defer('close the origin', () => origin.close());
    const expected = Buffer.from(start);
    let next = 0;
    const write = async (blocks: number) => {
      for (const end = next + blocks; next < end; next++) {
        const data = randomBytes(BLOCK);
        await origin.write(next * BLOCK, data);
        expected.set(data, next * BLOCK);
      }
    };

    const target = new SlowTarget();
    const backup = await startBackup({
      origin,
      target,
      container: [memoryContainer(8 * BLOCK), a, b],
      blockSize: BLOCK,
      maxDelay: 0,
    });
    const events: BackupEvent[] = [];
    const reading = (async () => {
      for await (const event of backup.events()) events.push(event);
    })();
    backup.pause(); // what the sweep has begun by now, no write captures
    const tiers = () => backup.stats().container.tiers;
    assert.deepEqual(
      tiers().map(({ description }) => description),
      [`file ${first}`, `file ${file}`],
    );

    await write(40);
    await until('blocks in the first', () => tiers()[0]!.usedBytes >= 10 * BLOCK);
    assert.equal(tiers()[1]!.usedBytes, 0);

    device.fail('write');
    await write(40);
    await until('the first is lost', () => tiers()[0]!.lost);
    await until('blocks in the second', () => tiers()[1]!.usedBytes >= 10 * BLOCK);
    await assert.rejects(a.resize(MiB), {
      message: /it failed, and is used no more/,
      code: 'ERR_SNAPBAK_RESIZE',
      path: first,
    });

    assert.equal(namelessSize(file), 4 * MiB);
    await b.resize(8 * MiB);
    assert.equal(namelessSize(file), 8 * MiB);
    await write(80);
    await until('it is used beyond its first end', () => tiers()[1]!.usedBytes > 5 * MiB);

    let shrunk = false;
    const shrinking = b.resize(2 * MiB).then(() => {
      shrunk = true;
    });
    await until('the new end', () => tiers()[1]!.capacityBytes === 2 * MiB);
    await write(2); // writers do not wait for it
    assert.equal(shrunk, false);
    assert.equal(namelessSize(file), 8 * MiB);
    target.open(8 * MiB);
    await shrinking;
    assert.equal(namelessSize(file), 2 * MiB);
    assert.ok(tiers()[1]!.usedBytes <= 2 * MiB);
    await write(100);

    backup.resume();
    const { state, stats } = await backup.finished;
    await reading;
    assert.equal(state, 'complete');
    assert.ok(target.image.equals(start), 'the backup is not the start instant');
    assert.ok((await origin.read(0, SIZE)).equals(expected), 'the origin lost a write');
    assert.ok(stats.writers.heldMaxMs < 30_000);
    assert.deepEqual(
      stats.container.tiers.map(({ usedBytes, lost }) => [usedBytes, lost]),
      [
        [0, true],
        [0, false],
      ],
    );
    const lost = events.filter((event) => event.event === 'spill' && event.lost);
    assert.equal(lost.length, 1);
    assert.ok(lost[0]!.event === 'spill' && lost[0]!.tier === `file ${first}` && lost[0]!.errno! < 0);

    await assert.rejects(b.resize(4 * MiB), { code: 'ERR_SNAPBAK_RESIZE', message: /no backup uses it/ });
    for (const path of [first, file]) assert.equal(namelessSize(path), undefined);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('a shrink that the end of the backup overtakes is rejected, and a drained one is not', async () => {
    const path = join(cleanup.folder('c'), 'c');
    const container = fileContainer(path, 4 * MiB, { memory: 4 * BLOCK });
    const image = join(cleanup.folder('origin'), 'disk.img');
    writeFileSync(image, randomBytes(SIZE));
    const origin = await openEmbedded(image);
    cleanup.defer('close the origin', () => origin.close());
    const target = new SlowTarget();
    const backup = await startBackup({ origin, target, container, blockSize: BLOCK, maxDelay: 0 });
    backup.pause();
    for (let block = 0; block < 60; block++) await origin.write(block * BLOCK, randomBytes(BLOCK));
    await until('spilled blocks', () => backup.stats().container.tier2UsedBytes > 2 * MiB);
    const overtaken = assert.rejects(container.resize(2 * MiB), { message: /resized again/ });
    const waiting = assert.rejects(container.resize(MiB), {
      code: 'ERR_SNAPBAK_RESIZE',
      message: /the backup ended before that was done/,
    });
    await overtaken;
    const aborted = backup.abort('enough');
    await waiting;
    target.open(SIZE);
    await aborted;
    assert.equal(namelessSize(path), undefined);
  });
});
