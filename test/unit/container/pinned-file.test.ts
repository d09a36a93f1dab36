// A container file on the origin's own file system. The kernel driver is not
// needed for it: a loop device is origin and lower device at once here.
import assert from 'node:assert/strict';
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { binding, type NativeBinding, type NativeOriginInfo } from '../../../lib/binding.js';
import type { OpenContainer } from '../../../lib/container/container.js';
import { fileContainer } from '../../../lib/container/file-container.js';
import { isOnOwnFileSystem, wholeBlocks } from '../../../lib/container/pinned-file.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dev, fakeHost } from '../../helpers/fake-host.js';
import { fakeInfo } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';
import { hashTree } from '../../helpers/mounted-fs.js';
import { ended, must, run, start, until } from '../../helpers/programs.js';

const MiB = 2 ** 20;
const BLOCK = 65_536;
const code = 'ERR_SNAPBAK_CONTAINER';

describe('the whole blocks of a file', () => {
  it('are what its extents cover entirely, joined where they touch', () => {
    const flat = Float64Array.of(
      ...[100, 4096], // less than a block
      ...[3 * BLOCK, 2 * BLOCK], // two, exactly
      ...[8 * BLOCK - 4096, 4096 + BLOCK / 2], // half of the next, and here is the rest of it
      ...[8 * BLOCK + BLOCK / 2, BLOCK],
    );
    assert.deepEqual(wholeBlocks(flat, BLOCK, 100 * BLOCK), [
      { offset: 3 * BLOCK, length: 2 * BLOCK },
      { offset: 8 * BLOCK, length: BLOCK },
    ]);
  });

  it('do not reach into the last, shorter block of the origin', () => {
    const all = Float64Array.of(0, 4 * BLOCK);
    assert.deepEqual(wholeBlocks(all, BLOCK, 4 * BLOCK - 512), [{ offset: 0, length: 3 * BLOCK }]);
  });

  it('never touch a byte that is not the file’s, whatever the extents', () => {
    const extent = fc.tuple(fc.nat(3000), fc.integer({ min: 1, max: 900 }));
    fc.assert(
      fc.property(fc.array(extent, { maxLength: 12 }), fc.constantFrom(4096, 16_384, BLOCK), (list, size) => {
        const flat = Float64Array.from(list.flatMap(([at, length]) => [at * 512, length * 512]));
        const mine = new Set(list.flatMap(([at, length]) => Array.from({ length }, (_, i) => at + i)));
        for (const { offset, length } of wholeBlocks(flat, size, 2 ** 40)) {
          assert.ok(offset % size === 0 && length % size === 0 && length > 0);
          for (let at = offset / 512; at < (offset + length) / 512; at++) assert.ok(mine.has(at), `${at}`);
        }
      }),
    );
  });
});

describe("the origin's own file system", () => {
  const origin: NativeOriginInfo = {
    ...fakeInfo(),
    driver: 'kernel',
    dev: dev(253, 3),
    lowerDev: dev(253, 2),
  };
  const host = fakeHost({ files: { '/dev/mapper/data': { blockDevice: '253:3' } } });
  const isOwn = (mount: object, info = origin) =>
    isOnOwnFileSystem(
      '/data/c',
      { mountPoint: '/data', device: '253:3', fsType: 'ext4', source: '/dev/dm-3', options: [], ...mount },
      info,
      host,
    );

  it('is known by the device of the mount, and only with the kernel driver', async () => {
    for (const fsType of ['ext2', 'ext3', 'ext4', 'xfs']) assert.equal(await isOwn({ fsType }), true);
    assert.equal(await isOwn({ device: '8:1' }), false);
    assert.equal(await isOwn({}, { ...origin, driver: 'user' }), false);
    assert.equal(await isOnOwnFileSystem('/data/c', undefined, origin, host), false);
  });

  it('is no place for a container if it may move its data', async () => {
    for (const fsType of ['f2fs', 'bcachefs', 'nilfs2']) {
      await assert.rejects(isOwn({ fsType }), { code, message: new RegExp(`${fsType} may move its data`) });
    }
    await assert.rejects(isOwn({ fsType: 'btrfs', device: '0:42', source: '/dev/mapper/data' }), {
      code,
      message: /btrfs may move its data .*\(ext2, ext3, ext4, xfs do not\)/,
    });
    await assert.rejects(isOwn({ options: ['rw', 'data=journal'] }), { code, message: /data=journal/ });
  });

  it('is not one whose log alone is there: that is refused elsewhere', async () => {
    assert.equal(await isOwn({ device: '8:1', fsType: 'xfs', options: ['logdev=/dev/mapper/data'] }), false);
  });
});

for (const kind of ['ext4', 'xfs'] as const) {
  describe(`a pinned container on ${kind}`, () => {
    const size = kind === 'xfs' ? 320 * MiB : 64 * MiB;
    let cleanup: Cleanup;
    let device: string;
    let mountPoint: string;
    let info: NativeOriginInfo;

    /** A file system on `path`, which begins at `offset` of `lower`. */
    async function mounted(path: string, lower = path, offset = 0): Promise<void> {
      device = path;
      const folder = cleanup.folder('pinned');
      mountPoint = folder;
      await must(`mkfs.${kind}`, ['-q', device]);
      await must('mount', [device, folder]);
      cleanup.defer(`unmount ${folder}`, () => must('umount', [folder]));
      info = {
        ...fakeInfo(Number(await must('blockdev', ['--getsize64', device]))),
        driver: 'kernel',
        dev: statSync(device).rdev,
        lowerDev: statSync(lower).rdev,
        lowerOffset: offset,
      };
    }
    const place = () => join(mountPoint, 'container');
    async function open(bytes = 4 * MiB): Promise<OpenContainer> {
      const container = await fileContainer(place(), bytes).open({ origin: info, blockSize: BLOCK });
      cleanup.defer('close the container', () => container.close());
      return container;
    }

    beforeEach(async () => {
      cleanup = new Cleanup();
      await mounted(await loopDevice(cleanup, size));
    });
    afterEach(() => cleanup.run());

    it('holds its name, cannot be changed, and is gone when it is closed', async () => {
      const container = await open();
      assert.equal(statSync(place()).mode & 0o777, 0o600);
      assert.match(await must('lsattr', [place()]), /^-*i/);
      for (const command of [
        ['rm', '-f', place()],
        ['mv', place(), `${place()}2`],
        ['truncate', '-s', '0', place()],
      ]) {
        assert.notEqual((await run(command[0]!, command.slice(1))).code, 0, command.join(' '));
      }
      await container.close();
      await container.close();
      assert.deepEqual(
        readdirSync(mountPoint).filter((name) => name !== 'lost+found'),
        [],
      );
    });

    it('gives whole blocks of the origin that are the file’s, and only a little less than asked for', async () => {
      const container = await open(8 * MiB);
      const { fd, direct, capacity, areas } = container.tiers![0]!;
      assert.equal(direct, true);
      assert.equal(fstatSync(fd).rdev, info.lowerDev);
      const excluded = container.excluded!;
      assert.deepEqual(
        [...areas!],
        excluded.flatMap(({ offset, length }) => [offset, length]),
      );
      assert.equal(
        excluded.reduce((sum, { length }) => sum + length, 0),
        capacity,
      );
      assert.ok(capacity >= 7 * MiB && capacity <= 8 * MiB + BLOCK, `${capacity}`);
      const content = Buffer.alloc(512);
      const disk = openSync(device, 'r');
      for (const { offset, length } of excluded) {
        assert.ok(offset % BLOCK === 0 && length % BLOCK === 0);
        // each sector says where in the file it is: this one is the file's
        readSync(disk, content, 0, 512, offset);
        assert.ok(Number(content.readBigUInt64LE(16)) < 8 * MiB + BLOCK);
        assert.ok(content.subarray(0, 16).some((byte) => byte !== 0));
      }
      closeSync(disk);
    });

    it('is not resized, and says why', async () => {
      const container = fileContainer(place(), 4 * MiB);
      const open = await container.open({ origin: info, blockSize: BLOCK });
      cleanup.defer('close the container', () => open.close());
      open.tiers![0]!.begin!(() => assert.fail('the end of the tier was moved'));
      await assert.rejects(container.resize(8 * MiB), {
        code: 'ERR_SNAPBAK_RESIZE',
        path: place(),
        message: /it lies on the origin's own file system, where its blocks were fixed/,
      });
      await open.close();
      await assert.rejects(container.resize(8 * MiB), { message: /no backup uses it/ });
    });

    it('harms no other file when it is written from end to end', async () => {
      for (let i = 0; i < 40; i++) {
        await writeFile(join(mountPoint, `file-${i}`), Buffer.alloc(100_000 + i * 1000, i + 1));
        if (i % 3 === 0) await must('rm', [join(mountPoint, `file-${i}`)]); // gaps
      }
      const before = await hashTree(mountPoint);
      const container = await open(16 * MiB);
      const during = [...container.tiers![0]!.areas!];
      for (let i = 0; i < during.length; i += 2) {
        const range = [`seek=${during[i]}`, `count=${during[i + 1]}`];
        const to = `of=/proc/${process.pid}/fd/${container.tiers![0]!.fd}`;
        await must('dd', [
          'if=/dev/urandom',
          to,
          'bs=64K',
          'iflag=count_bytes,fullblock',
          'oflag=seek_bytes,direct',
          'conv=notrunc',
          ...range,
        ]);
      }
      await container.close();
      await must('umount', [mountPoint]);
      const checker = kind === 'xfs' ? ['xfs_repair', '-n'] : ['e2fsck', '-fn'];
      await must(checker[0]!, [checker[1]!, device]);
      await must('mount', [device, mountPoint]);
      assert.deepEqual(await hashTree(mountPoint), before);
    });

    it('is found where the file system begins on the lower device, and nowhere else', async () => {
      const lower = await loopDevice(cleanup, size + 3 * MiB);
      const upper = (await must('losetup', ['--show', '-f', '-o', `${2 * MiB}`, lower])).trim();
      cleanup.defer(`detach ${upper}`, () => must('losetup', ['-d', upper]));
      await mounted(upper, lower, 2 * MiB);
      const container = await open();
      assert.equal(container.tiers![0]!.areas![0], container.excluded![0]!.offset + 2 * MiB);
      await container.close();
      info.lowerOffset = MiB;
      await assert.rejects(open(), { code, message: /is not where its file system says on the device/ });
      assert.ok(!existsSync(place()), 'nothing is left behind');
    });

    it('that a killed process left is known, and removed by the next', async () => {
      const program = fileURLToPath(new URL('../../helpers/pinned-holder.ts', import.meta.url));
      const holder = start(process.execPath, ['--import', 'tsx', program, place(), JSON.stringify(info)]);
      const gone = ended(holder);
      let said = '';
      holder.stdout!.on('data', (text: string) => {
        said += text;
      });
      await until('it is open', () => said.includes('open') || holder.exitCode !== null);
      await assert.rejects(open(), { code, message: /is the container of a backup that runs/ });
      holder.kill('SIGKILL');
      await gone;
      assert.match(await must('lsattr', [place()]), /^-*i/);
      const container = await open();
      await container.close();
      assert.ok(!existsSync(place()));
    });

    it('does not take another file for one that was left, though that is immutable', async () => {
      await writeFile(place(), 'mine');
      await must('chattr', ['+i', place()]);
      try {
        await assert.rejects(open(), { code, message: /exists already/ });
        assert.equal(statSync(place()).size, 4);
      } finally {
        await must('chattr', ['-i', place()]);
      }
    });

    it('is refused without room, and leaves nothing', async () => {
      await assert.rejects(open(2 * size), { code, message: /file system has .* free/ });
      assert.ok(!existsSync(place()));
    });

    it('is refused where it lies in pieces smaller than a block, and leaves nothing', async () => {
      const native = () => ({
        ...binding(),
        async pinFile(...request: Parameters<NativeBinding['pinFile']>) {
          const { extents } = await binding().pinFile(...request);
          const pieces = Array.from({ length: 64 }, (_, i) => [extents[0]! + i * 2 * BLOCK, BLOCK - 4096]);
          return { extents: Float64Array.from(pieces.flat()) };
        },
      });
      const container = fileContainer(place(), 4 * MiB, {}, { native });
      await assert.rejects(container.open({ origin: info, blockSize: BLOCK }), {
        code,
        message: /lies in 64 pieces .* whole blocks of 64 KiB; take a larger file, a smaller blockSize/,
      });
      assert.ok(!existsSync(place()));
    });
  });
}
