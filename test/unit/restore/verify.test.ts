import assert from 'node:assert/strict';
import {
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from '../../../lib/manifest.js';
import { type VerifyOptions, verify } from '../../../lib/restore/verify.js';
import { makeBackup } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dataBinding } from '../../helpers/fake-binding.js';
import { nativeError } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';
import { stamped } from '../../helpers/images.js';
import { must } from '../../helpers/programs.js';

const SIZE = 20 * 4096 + 1000;

describe('verify', () => {
  const cleanup = new Cleanup();
  let backup: string;
  let data: ReturnType<typeof dataBinding>;
  const check = (options: Partial<VerifyOptions> = {}) =>
    verify({ backup, ...options }, { native: () => data.native });
  const make = (changes: Partial<Manifest> = {}) => makeBackup(backup, stamped(0, SIZE, 1), changes);
  beforeEach(() => {
    backup = join(cleanup.folder('verify'), 'backup');
    data = dataBinding();
  });
  after(() => cleanup.run());

  /** Flips one bit of a file. */
  function flip(name: string, byte: number): void {
    const path = join(backup, name);
    const content = readFileSync(path);
    content[byte]! ^= 0x10;
    writeFileSync(path, content);
  }

  it('checks every listed block, the last and shorter one too', async () => {
    await make();
    const result = await check();
    assert.deepEqual(
      { ...result, seconds: 0 },
      { bytes: SIZE, badBlocks: 0, invalidBlocks: 0, invalidExtents: [], seconds: 0 },
    );
    assert.ok(result.seconds >= 0);
    assert.equal(data.replays[0]?.target, undefined);
    assert.equal(data.replays[0]?.check, true);
  });

  it('checks nothing that is not listed, and skips invalid blocks', async () => {
    await make({
      state: 'complete-with-invalid-blocks',
      blocks: [
        [0, 4 * 4096],
        [8 * 4096, 8192],
      ],
      invalidBlocks: [[4096, 8192]],
    });
    for (const block of [1, 2, 5, 12]) flip('data.img', block * 4096);
    const result = await check();
    assert.equal(result.bytes, 4 * 4096);
    assert.equal(result.invalidBlocks, 2);
    assert.deepEqual(result.invalidExtents, [{ offset: 4096, length: 8192 }]);
    assert.deepEqual([...data.replays[0]!.extents], [0, 4096, 3 * 4096, 4096, 8 * 4096, 8192]);
  });

  it('checks a backup of nothing', async () => {
    await makeBackup(backup, Buffer.alloc(0));
    assert.equal((await check()).bytes, 0);
  });

  it('finds every flipped bit of the image, and says how many blocks and where the first is', async () => {
    await make();
    flip('data.img', 7 * 4096 + 5);
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      message: /data\.img is damaged: one block differs from its checksum, the first at byte 28672/,
      path: join(backup, 'data.img'),
      extent: { offset: 28_672, length: 4096 },
    });
    flip('data.img', SIZE - 1);
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      message: /2 blocks differ/,
      extent: { offset: 28_672, length: 4096 },
    });
    flip('data.img', 7 * 4096 + 5);
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      extent: { offset: 20 * 4096, length: 1000 },
    });
  });

  it('finds a flipped bit of the checksums before it blames the image', async () => {
    await make();
    for (const byte of [0, 21 * 4 - 1]) {
      flip('checksums', byte);
      await assert.rejects(check(), {
        code: 'ERR_SNAPBAK_CORRUPT',
        message: /the checksum file .*checksums is damaged: its SHA-256 is not the one in the manifest/,
        path: join(backup, 'checksums'),
      });
      flip('checksums', byte);
    }
    assert.equal(data.replays.length, 0);
  });

  it('finds files that are missing, cut off or too long', async () => {
    await make();
    for (const size of [SIZE - 1, SIZE + 1, 0]) {
      truncateSync(join(backup, 'data.img'), size);
      await assert.rejects(check(), {
        code: 'ERR_SNAPBAK_CORRUPT',
        message: new RegExp(`it has ${size} bytes, the manifest says ${SIZE}`),
      });
    }
    truncateSync(join(backup, 'data.img'), SIZE);
    truncateSync(join(backup, 'checksums'), 80);
    await assert.rejects(check(), { code: 'ERR_SNAPBAK_CORRUPT', message: /checksum file/ });
    rmSync(join(backup, 'checksums'));
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      path: join(backup, 'checksums'),
      message: /\(ENOENT\)/,
    });
    rmSync(join(backup, 'data.img'));
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      path: join(backup, 'data.img'),
      message: /\(ENOENT\)/,
    });
  });

  it('follows no symbolic link out of the backup', async () => {
    await make();
    const outside = join(backup, '..', 'outside.img');
    renameSync(join(backup, 'data.img'), outside);
    symlinkSync(outside, join(backup, 'data.img'));
    await assert.rejects(check(), { code: 'ERR_SNAPBAK_MANIFEST', message: /data\.img is a symbolic link/ });
  });

  it('opens no pipe and no device that lies there under a name of its files', async () => {
    await make();
    for (const [program, ...rest] of [
      ['mkfifo', join(backup, 'data.img')],
      ['mknod', join(backup, 'data.img'), 'c', '1', '3'],
    ]) {
      rmSync(join(backup, 'data.img'));
      await must(program!, rest);
      await assert.rejects(check(), {
        code: 'ERR_SNAPBAK_MANIFEST',
        message: /data\.img is no regular file/,
      });
    }
  });

  it('stays in the directory though a link takes its place meanwhile', async () => {
    // what a thief would do: a manifest that names the file he wants, and then the folder where that is
    const { checksums } = await make({ image: { kind: 'file', name: 'secret' } });
    renameSync(join(backup, 'data.img'), join(backup, 'secret'));
    const other = join(backup, '..', 'other');
    mkdirSync(other);
    writeFileSync(join(other, 'secret'), 'x'.repeat(SIZE));
    writeFileSync(join(other, checksums.name), '');
    // the size of the image is asked for between its opening and that of the checksums
    const { deviceSize } = data.native;
    data.native.deviceSize = (fd) => {
      renameSync(backup, join(backup, '..', 'moved'));
      symlinkSync(other, backup);
      return deviceSize(fd);
    };
    assert.equal((await check()).bytes, SIZE);
  });

  it('does not read a checksum file that is longer than there are blocks', async () => {
    await make();
    truncateSync(join(backup, 'checksums'), 2 ** 43); // its SHA-256 would take hours
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      path: join(backup, 'checksums'),
      message: /it has 8796093022208 bytes, and should have 84/,
    });
  });

  it('refuses a backup that broke, and says why it did', async () => {
    await make({ state: 'broken', error: { code: 'ERR_SNAPBAK_TARGET', message: 'no space left' } });
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_INCOMPLETE',
      path: backup,
      message: /was broken: no space left$/,
    });
  });

  it('refuses what has no manifest, or an image that a program of its own keeps', async () => {
    await assert.rejects(check(), { code: 'ERR_SNAPBAK_MANIFEST' });
    await make({ image: { kind: 'custom' } });
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_MANIFEST',
      message: /stored by a program of its own/,
    });
  });

  it('reads an image from its device, which may be larger', async () => {
    const device = await loopDevice(cleanup, 24 * 4096);
    writeFileSync(device, stamped(0, SIZE, 1));
    await make({ image: { kind: 'device', path: '/dev/named-otherwise-then', offset: 0 } });
    assert.equal((await check({ imageDevice: device })).bytes, SIZE);
  });

  it('never opens a device because a manifest names it', async () => {
    const device = await loopDevice(cleanup, 24 * 4096);
    writeFileSync(device, stamped(0, SIZE, 1));
    await make({ image: { kind: 'device', path: device, offset: 0 } });
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_MANIFEST',
      path: backup,
      message: new RegExp(`manifest says ${device}; if you trust that, name the device yourself`),
    });
    assert.equal(data.replays.length, 0);
  });

  it('takes no device for an image that is a file of the backup', async () => {
    await make();
    await assert.rejects(check({ imageDevice: '/dev/null' }), {
      code: 'ERR_SNAPBAK_MANIFEST',
      message: /is a file in it, not on the device \/dev\/null/,
    });
  });

  it('refuses a device that is too small, is gone, or is none', async () => {
    const device = await loopDevice(cleanup, 16 * 4096);
    const on = async (path: string) => {
      backup = join(cleanup.folder('verify'), 'backup');
      await make({ image: { kind: 'device', path, offset: 0 } });
      return check({ imageDevice: path });
    };
    await assert.rejects(on(device), { code: 'ERR_SNAPBAK_CORRUPT', message: /it has 65536 bytes/ });
    await assert.rejects(on('/dev/missing'), {
      code: 'ERR_SNAPBAK_IO',
      path: '/dev/missing',
      message: /\(ENOENT\)/,
    });
    await assert.rejects(on('/etc/passwd'), {
      code: 'ERR_SNAPBAK_MANIFEST',
      message: /\/etc\/passwd, named as the device with the image, is no block device/,
    });
    await assert.rejects(on('/dev/null'), { code: 'ERR_SNAPBAK_MANIFEST', message: /is no block device/ });
  });

  it('says what could not be read', async () => {
    await make();
    data.failing.set('replay', nativeError(5, 'image'));
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_IO',
      errno: -5,
      message: /cannot verify: the image .*data\.img cannot be read: .*\(EIO\)/,
    });
    data.failing.set('replay', nativeError(5, 'checksums'));
    await assert.rejects(check(), { code: 'ERR_SNAPBAK_IO', message: /the checksums cannot be read/ });
    data.failing.set('replay', new TypeError('a mistake of ours'));
    await assert.rejects(check(), { name: 'TypeError' });
  });

  it('reports progress, the end of it above all', async () => {
    await make();
    const seen: number[] = [];
    await check({
      onProgress({ doneBytes, totalBytes, badBlocks }) {
        assert.deepEqual([totalBytes, badBlocks], [SIZE, 0]);
        seen.push(doneBytes);
      },
    });
    assert.equal(seen.at(-1), SIZE);
  });

  it('ends with what the progress function throws', async () => {
    await make();
    const mistake = new Error('in the caller');
    const onProgress = () => {
      throw mistake;
    };
    await assert.rejects(check({ onProgress }), (error) => error === mistake);
    data.gate = new Promise((resolve) => setTimeout(resolve, 300)); // progress comes before the first block
    await assert.rejects(check({ onProgress }), (error) => error === mistake);
  });

  it('stops at its signal, before and while it reads', async () => {
    await make();
    const reason = new Error('enough');
    await assert.rejects(check({ signal: AbortSignal.abort(reason) }), {
      code: 'ERR_SNAPBAK_ABORTED',
      cause: reason,
    });
    assert.equal(data.replays.length, 0);
    const controller = new AbortController();
    let open = () => {};
    data.gate = new Promise((resolve) => {
      open = resolve;
    });
    const running = check({ signal: controller.signal });
    while (data.replays.length === 0) await new Promise(setImmediate);
    controller.abort(reason);
    open();
    await assert.rejects(running, {
      code: 'ERR_SNAPBAK_ABORTED',
      message: 'the verify was aborted',
      cause: reason,
    });
  });

  it('wants arguments of the right kind', async () => {
    const error = (options: unknown, message: RegExp) =>
      assert.rejects(verify(options as VerifyOptions, { native: () => data.native }), {
        name: 'TypeError',
        message,
      });
    await error(undefined, /options must be an object/);
    await error({}, /options\.backup must be a string/);
    await error({ backup, imageDevice: 1 }, /options\.imageDevice must be a string/);
    await assert.rejects(check({ imageDevice: '' }), { name: 'RangeError' });
    await error({ backup, to: '/x' }, /options\.to is not an option/);
    await error({ backup, signal: {} }, /options\.signal must be an AbortSignal/);
    await error({ backup, onProgress: 1 }, /options\.onProgress must be a function/);
    await assert.rejects(check({ backup: '' }), { name: 'RangeError' });
  });
});
