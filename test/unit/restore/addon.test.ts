// The same rules with the addon itself: its replay, sizes, signatures and
// preallocation must mean what the fake of the other tests says.
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { binding, type NativeReplayOptions } from '../../../lib/binding.js';
import { BlockList } from '../../../lib/blocks/block-list.js';
import { deviceContainer } from '../../../lib/container/device-container.js';
import { fileContainer } from '../../../lib/container/file-container.js';
import type { ExtentPair } from '../../../lib/manifest-format.js';
import { restore } from '../../../lib/restore/restore.js';
import { verify } from '../../../lib/restore/verify.js';
import { makeBackup } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { crc32c } from '../../helpers/fake-binding.js';
import { fakeInfo } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';
import { stamped } from '../../helpers/images.js';
import { openFiles } from '../../helpers/processes.js';
import { must } from '../../helpers/programs.js';

const MiB = 2 ** 20;

/** Extents in blocks as a manifest lists them: aligned, ascending, disjoint. */
function pairs(list: [number, number][], blockSize: number, size: number): ExtentPair[] {
  const extents = list.map(([block, count]) => ({ offset: block * blockSize, length: count * blockSize }));
  const aligned = BlockList.extents(extents).alignTo(blockSize, size);
  return [...aligned].map(({ offset, length }) => [offset, length]);
}

describe('verify and restore with the addon', () => {
  const cleanup = new Cleanup();
  let folder: string;
  let backup: string;
  let to: string;
  beforeEach(() => {
    folder = cleanup.folder('addon');
    backup = join(folder, 'backup');
    to = join(folder, 'restored.img');
  });
  after(() => cleanup.run());

  it('agree with a plain CRC32C', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) =>
        assert.equal(binding().crc32c(bytes), crc32c(bytes)),
      ),
    );
  });

  it('hold nothing open once they are done: the device that was restored is free again', async () => {
    const device = await loopDevice(cleanup, MiB);
    await makeBackup(backup, Buffer.from(stamped(0, MiB, 1)));
    await verify({ backup });
    await restore({ backup, to: device });
    const open = openFiles(process.pid);
    assert.deepEqual(
      open.filter((name) => name.startsWith(folder) || name === device),
      [],
    );
  });

  it('bring back exactly what is listed, for any size, block size, list and zeroes', async function () {
    this.timeout(60_000);
    const runs = fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 8 })), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 200_000 }),
        fc.constantFrom(4096, 16_384, 65_536),
        runs,
        runs,
        runs,
        async (size, blockSize, listed, invalid, zero) => {
          rmSync(backup, { recursive: true, force: true });
          rmSync(to, { force: true });
          const image = Buffer.from(stamped(0, size, 1));
          for (const [offset, length] of pairs(zero, blockSize, size)) image.fill(0, offset, offset + length);
          const blocks = pairs(listed, blockSize, size);
          const list = (extents: ExtentPair[]) =>
            BlockList.extents(extents.map(([offset, length]) => ({ offset, length })));
          const bad = list(pairs(invalid, blockSize, size)).intersect(list(blocks));
          const invalidBlocks = [...bad].map(({ offset, length }): ExtentPair => [offset, length]);
          const state = bad.runs > 0 ? 'complete-with-invalid-blocks' : 'complete';
          await makeBackup(backup, image, { blocks, invalidBlocks, state }, blockSize);
          const good = list(blocks).subtract(bad);
          const expected = Buffer.alloc(size);
          for (const { offset, length } of good) image.copy(expected, offset, offset, offset + length);
          assert.equal((await verify({ backup })).bytes, good.bytes);
          const result = await restore({ backup, to });
          assert.deepEqual([result.bytes, result.invalidBlocks], [good.bytes, bad.count(blockSize)]);
          assert.ok(readFileSync(to).equals(expected));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('find any flipped bit of the image, and where it is', async function () {
    this.timeout(60_000);
    const size = 20 * 4096 + 777;
    const image = stamped(0, size, 1);
    await makeBackup(backup, image);
    await fc.assert(
      fc.asyncProperty(fc.nat(size - 1), fc.nat(7), async (byte, bit) => {
        const damaged = Buffer.from(image);
        damaged[byte]! ^= 1 << bit;
        writeFileSync(join(backup, 'data.img'), damaged);
        const offset = byte - (byte % 4096);
        const extent = { offset, length: Math.min(4096, size - offset) };
        await assert.rejects(verify({ backup }), { code: 'ERR_SNAPBAK_CORRUPT', extent });
        await assert.rejects(restore({ backup, to }), { code: 'ERR_SNAPBAK_CORRUPT', extent });
        assert.throws(() => statSync(to), { code: 'ENOENT' });
      }),
      { numRuns: 30 },
    );
  });

  it('leave holes in a file, and zeroes on a device', async () => {
    const image = Buffer.concat([Buffer.alloc(MiB), stamped(MiB, MiB, 1), Buffer.alloc(MiB + 512)]);
    await makeBackup(backup, image, {}, 65_536);
    await restore({ backup, to });
    assert.ok(readFileSync(to).equals(image));
    assert.ok(statSync(to).blocks * 512 < 2 * MiB);
    const device = await loopDevice(cleanup, 4 * MiB);
    writeFileSync(device, Buffer.alloc(4 * MiB, 9));
    await restore({ backup, to: device });
    const found = readFileSync(device);
    assert.ok(found.subarray(0, image.length).equals(image));
    assert.ok(found.subarray(image.length).every((byte) => byte === 9));
  });

  it('refuse a device with a file system or a partition table on it, but for force', async () => {
    await makeBackup(backup, stamped(0, MiB, 1), {}, 65_536);
    const device = await loopDevice(cleanup, 64 * MiB);
    await must('mkfs.ext4', ['-q', device]);
    await assert.rejects(restore({ backup, to: device }), {
      code: 'ERR_SNAPBAK_RESTORE',
      message: /holds a ext4 filesystem signature/,
    });
    const table = Buffer.alloc(512);
    table.writeUInt8(0x83, 0x1be + 4); // one Linux partition of 2,048 sectors
    table.writeUInt32LE(2048, 0x1be + 8);
    table.writeUInt32LE(2048, 0x1be + 12);
    table.writeUInt16LE(0xaa55, 510);
    writeFileSync(device, Buffer.concat([table, Buffer.alloc(MiB)]));
    await assert.rejects(restore({ backup, to: device }), {
      code: 'ERR_SNAPBAK_RESTORE',
      message: /holds a dos partition table signature/,
    });
    await restore({ backup, to: device, force: true });
    assert.ok(
      readFileSync(device)
        .subarray(0, MiB)
        .equals(stamped(0, MiB, 1)),
    );
  });

  it('stop in the middle', async () => {
    await makeBackup(backup, stamped(0, 32 * MiB, 1), {}, 65_536);
    const controller = new AbortController();
    let doneBytes = -1;
    const native = () => ({
      ...binding(),
      replay(options: NativeReplayOptions) {
        const running = binding().replay(options);
        queueMicrotask(() => controller.abort()); // the threads have just begun
        running.finished.catch(() => {
          doneBytes = running.stats().doneBytes;
        });
        return running;
      },
    });
    await assert.rejects(restore({ backup, to, signal: controller.signal }, { native }), {
      code: 'ERR_SNAPBAK_ABORTED',
    });
    assert.ok(doneBytes >= 0 && doneBytes < 32 * MiB, `${doneBytes} bytes were done`);
    assert.throws(() => statSync(to), { code: 'ENOENT' });
  });
});

describe('containers with the addon', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('are allocated on the disk to the last byte', async () => {
    const path = join(cleanup.folder('addon'), 'container');
    const open = await fileContainer(path, 8 * MiB).open({ origin: fakeInfo(64 * MiB), blockSize: 65_536 });
    const stats = fstatSync(open.tiers![0]!.fd);
    assert.ok(stats.size === 8 * MiB && stats.blocks * 512 >= 8 * MiB);
    await open.close();
  });

  it('are as large as their device, and refuse one with a file system', async () => {
    const device = await loopDevice(cleanup, 8 * MiB);
    const context = { origin: fakeInfo(64 * MiB), blockSize: 65_536 };
    const open = await deviceContainer(device).open(context);
    assert.equal(open.tiers?.[0]?.capacity, 8 * MiB);
    await open.close();
    await must('mkfs.ext4', ['-q', device]);
    await assert.rejects(deviceContainer(device).open(context), {
      code: 'ERR_SNAPBAK_CONTAINER',
      message: /ext4 filesystem/,
    });
  });

  it('know the size of a file and of a device', async () => {
    const path = join(cleanup.folder('addon'), 'file');
    writeFileSync(path, Buffer.alloc(1234));
    const device = await loopDevice(cleanup, 3 * MiB + 512);
    for (const [place, size] of [
      [path, 1234],
      [device, 3 * MiB + 512],
    ] as const) {
      const fd = openSync(place, 'r');
      assert.equal(binding().deviceSize(fd), size);
      closeSync(fd);
    }
  });
});
