// Several origins in one backup: one instant for all, and one that breaks takes no other with it.
import assert from 'node:assert/strict';
import { copyFile, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type GroupManifest, readAnyManifest } from '../../lib/manifest.js';
import { Cleanup } from '../helpers/cleanup.js';
import { CliRun, expectExit, snapbakExits, told } from '../helpers/cli.js';
import { expectSame } from '../helpers/images.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { type ServedImage, serveImage, untilIdle } from '../helpers/served-image.js';

const MiB = 2 ** 20;
const SIZES = { data: 24 * MiB, log: 16 * MiB };
const LANES = 4;
const LANE_BYTES = 65_536;

describe('a backup of several origins', () => {
  let cleanup: Cleanup;
  let data: ServedImage;
  let log: ServedImage;
  let folder: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    folder = cleanup.folder('disks');
    [data, log] = (await Promise.all(Object.values(SIZES).map((size) => serveImage(cleanup, { size })))) as [
      ServedImage,
      ServedImage,
    ];
    for (const { image } of [data, log]) await copyFile(image, `${image}.before`);
  });
  afterEach(() => cleanup.run());

  function startBackup(directory: string, ...options: string[]): CliRun {
    const origins = [`data=${data.origin}`, `log=${log.origin}`];
    const backup = new CliRun(['backup', ...origins, directory, '--json', ...options]);
    cleanup.defer('end snapbak backup', () => backup.kill());
    return backup;
  }

  /** The number of each lane in an image. */
  async function numbers(image: string): Promise<number[]> {
    const file = await open(image);
    try {
      const found = [];
      for (let lane = 0; lane < LANES; lane++) {
        const { buffer } = await file.read(Buffer.alloc(8), 0, 8, lane * LANE_BYTES);
        found.push(Number(buffer.readBigUInt64LE()));
      }
      return found;
    } finally {
      await file.close();
    }
  }

  /** Writes ascending numbers, to the log only when the data has them; gives what was counted, and an end. */
  async function count() {
    const clients = await Promise.all([data, log].map(({ nbdSocket }) => NbdClient.connect(nbdSocket)));
    const counted = new Array<number>(LANES).fill(0);
    let going = true;
    const lanes = counted.map(async (_, lane) => {
      while (going) {
        const number = Buffer.alloc(8);
        number.writeBigUInt64LE(BigInt(counted[lane]! + 1));
        for (const client of clients) await client.write(lane * LANE_BYTES, number);
        counted[lane]! += 1;
      }
    });
    const stop = async () => {
      going = false;
      await Promise.all(lanes);
      await Promise.all(clients.map((client) => client.close()));
    };
    cleanup.defer('end the writer', () => stop().catch(() => {}));
    return { counted, stop };
  }

  it('is as of one instant, though an application writes to one after the other, and is restored by name', async () => {
    const zeroes = Buffer.alloc(8);
    for (const { image } of [data, log]) {
      const file = await open(image, 'r+');
      for (let lane = 0; lane < LANES; lane++) await file.write(zeroes, 0, 8, lane * LANE_BYTES);
      await file.close();
    }
    const writer = await count();
    for (const turn of [1, 2]) {
      const before = [...writer.counted];
      const directory = join(folder, `backup-${turn}`);
      const backup = startBackup(directory);
      await backup.event('started');
      await expectExit(0, backup.finished);
      const [first, second] = await Promise.all(
        ['data', 'log'].map((name) => numbers(join(directory, `${name}.img`))),
      );
      for (let lane = 0; lane < LANES; lane++) {
        const [a, b] = [first![lane]!, second![lane]!];
        assert.ok(b <= a && a <= b + 1, `turn ${turn}, lane ${lane}: ${a} on the first, ${b} on the second`);
        assert.ok(a >= before[lane]!, 'what was written before the start is there');
        assert.ok(a < writer.counted[lane]!, 'writes went on');
      }
    }
    await writer.stop();
    const directory = join(folder, 'backup-2');
    const to = join(folder, 'restored.img');
    await snapbakExits(0, 'restore', directory, to, '--disk', 'log');
    await expectSame(to, join(directory, 'log.img'));
  });

  it('keeps the good disk when the driver of another dies half way, and says which is which', async () => {
    const directory = join(folder, 'backup');
    const backup = startBackup(directory, '--rate', '8M');
    const started = await backup.event('started');
    assert.deepEqual(
      (started.disks as { name: string; size: number }[]).map(({ name, size }) => [name, size]),
      Object.entries(SIZES),
    );
    await backup.event('progress', ({ doneBytes }) => (doneBytes as number) > 0);
    const nbdkit = (await log.server.event('started')).pid as number;
    process.kill(nbdkit, 'SIGKILL');
    const broke = await backup.event('disk', ({ state }) => state === 'broken');
    assert.equal(broke.disk, 'log');
    assert.equal(broke.code, 'ERR_SNAPBAK_DRIVER_GONE');
    const result = await expectExit(3, backup.finished);
    assert.equal(result.events.at(-1)?.event, 'broken', told(result));
    const { state, disks } = (await readAnyManifest(directory)) as GroupManifest;
    assert.equal(state, 'broken');
    assert.deepEqual(
      disks.map(({ name, state, error }) => [name, state, error?.code]),
      [
        ['data', 'complete', undefined],
        ['log', 'broken', 'ERR_SNAPBAK_DRIVER_GONE'],
      ],
    );
    await snapbakExits(1, 'verify', directory);
    const to = join(folder, 'restored.img');
    await snapbakExits(0, 'restore', directory, to, '--disk', 'data');
    await expectSame(to, `${data.image}.before`);
  });

  it('begins with all of them or with none: a busy one leaves the others free, and nothing behind', async () => {
    const alone = new CliRun(['backup', log.origin, join(folder, 'alone'), '--json', '--rate', '4M']);
    cleanup.defer('end snapbak backup', () => alone.kill());
    await alone.event('started');
    const directory = join(folder, 'backup');
    const refused = await startBackup(directory).finished;
    assert.equal(refused.code, 1, told(refused));
    assert.equal(refused.events.find(({ event }) => event === 'error')?.code, 'ERR_SNAPBAK_BUSY');
    await assert.rejects(readAnyManifest(directory), /there is no manifest.json/);
    await alone.kill();
    await untilIdle(log.origin);
    await expectExit(0, startBackup(directory).finished);
    await expectSame(join(directory, 'data.img'), `${data.image}.before`);
    await expectSame(join(directory, 'log.img'), `${log.image}.before`);
  });
});
