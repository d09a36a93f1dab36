import assert from 'node:assert/strict';
import {
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from '../../../lib/manifest.js';
import { type RestoreOptions, restore } from '../../../lib/restore/restore.js';
import { makeBackup } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dataBinding } from '../../helpers/fake-binding.js';
import { nativeError } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';
import { stamped } from '../../helpers/images.js';

const SIZE = 20 * 4096 + 1000;
const code = 'ERR_SNAPBAK_RESTORE';

describe('restore', () => {
  const cleanup = new Cleanup();
  const image = stamped(0, SIZE, 1);
  let folder: string;
  let backup: string;
  let to: string;
  let data: ReturnType<typeof dataBinding>;
  const bring = (options: Partial<RestoreOptions> = {}) =>
    restore({ backup, to, ...options }, { native: () => data.native });
  const make = (changes: Partial<Manifest> = {}, content = image) => makeBackup(backup, content, changes);
  beforeEach(() => {
    folder = cleanup.folder('restore');
    backup = join(folder, 'backup');
    to = join(folder, 'restored.img');
    data = dataBinding();
  });
  after(() => cleanup.run());

  /** Damages one byte of the image. */
  function damage(byte: number): void {
    const content = readFileSync(join(backup, 'data.img'));
    content[byte]! ^= 1;
    writeFileSync(join(backup, 'data.img'), content);
  }

  it('makes a private file that is the image, byte for byte', async () => {
    await make();
    const result = await bring();
    assert.ok(readFileSync(to).equals(image));
    assert.equal(statSync(to).mode & 0o777, 0o600);
    assert.deepEqual(
      { ...result, seconds: 0 },
      { bytes: SIZE, badBlocks: 0, invalidBlocks: 0, invalidExtents: [], seconds: 0 },
    );
    assert.equal(data.replays[0]?.check, true);
    assert.equal(data.replays[0]?.target?.fresh, true);
  });

  it('leaves holes for zeroes, and for what is not listed or was invalid', async () => {
    await make(
      {
        state: 'complete-with-invalid-blocks',
        blocks: [
          [0, 8192],
          [4 * 4096, 8192],
        ],
        invalidBlocks: [[4096, 4096]],
      },
      Buffer.concat([Buffer.alloc(4096), image.subarray(4096)]),
    );
    const { bytes, invalidBlocks } = await bring();
    assert.deepEqual([bytes, invalidBlocks], [3 * 4096, 1]);
    const expected = Buffer.alloc(SIZE);
    image.copy(expected, 4 * 4096, 4 * 4096, 6 * 4096);
    assert.ok(readFileSync(to).equals(expected));
    assert.ok(statSync(to).blocks * 512 <= 2 * 4096);
  });

  it('fills a file that is empty, and keeps its mode', async () => {
    await make();
    writeFileSync(to, '', { mode: 0o640 });
    await bring();
    assert.ok(readFileSync(to).equals(image));
    assert.equal(statSync(to).mode & 0o777, 0o640);
  });

  it('refuses a file that holds something; with force it is emptied first', async () => {
    await make({ blocks: [[0, 4096]] });
    const before = Buffer.alloc(SIZE + 5000, 9);
    writeFileSync(to, before);
    await assert.rejects(bring(), {
      code,
      path: to,
      message: /exists and holds .* KiB; with force it is overwritten/,
    });
    assert.ok(readFileSync(to).equals(before));
    await bring({ force: true });
    const expected = Buffer.alloc(SIZE);
    image.copy(expected, 0, 0, 4096);
    assert.ok(readFileSync(to).equals(expected));
  });

  it('refuses the files of the backup itself, whatever they are called', async () => {
    await make();
    for (const name of ['data.img', 'checksums', 'manifest.json']) {
      await assert.rejects(bring({ to: join(backup, name), force: true }), {
        code,
        message: /is part of the backup itself/,
      });
    }
    linkSync(join(backup, 'data.img'), to);
    await assert.rejects(bring({ force: true }), { code, message: /is part of the backup itself/ });
    assert.ok(readFileSync(to).equals(image));
  });

  it('refuses what is neither a file nor a block device, and a folder that is not there', async () => {
    await make();
    await assert.rejects(bring({ to: folder }), { code, message: /is neither a file nor a block device/ });
    await assert.rejects(bring({ to: '/dev/null', force: true }), { code, message: /is neither/ });
    await assert.rejects(bring({ to: join(folder, 'no', 'file') }), {
      code,
      errno: -2,
      message: /cannot make .*\(ENOENT\)/,
    });
    await assert.rejects(bring({ to: join(backup, 'data.img', 'x') }), { code, message: /\(ENOTDIR\)/ });
  });

  it('writes through no symbolic link, whatever it leads to, with force as well', async () => {
    await make();
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'old');
    const device = await loopDevice(cleanup, 24 * 4096);
    for (const aim of [victim, device, join(folder, 'not-there')]) {
      rmSync(to, { force: true });
      symlinkSync(aim, to);
      await assert.rejects(bring({ force: true }), {
        code,
        path: to,
        message: /is a symbolic link; name what it leads to/,
      });
    }
    assert.equal(readFileSync(victim, 'utf8'), 'old');
    assert.ok(readFileSync(device).every((byte) => byte === 0));
    assert.equal(existsSync(join(folder, 'not-there')), false);
  });

  it("follows the system's own names of devices", async () => {
    await make();
    const device = await loopDevice(cleanup, 24 * 4096);
    const link = `/dev/snapbak-test-${process.pid}`;
    symlinkSync(device, link);
    try {
      await bring({ to: link });
    } finally {
      rmSync(link);
    }
    assert.ok(readFileSync(device).subarray(0, SIZE).equals(image));
  });

  it('writes to a device, and leaves what is not listed and what is behind the image', async () => {
    const device = await loopDevice(cleanup, 24 * 4096);
    const before = Buffer.alloc(24 * 4096, 9);
    writeFileSync(device, before);
    await make({
      blocks: [
        [0, 4096],
        [20 * 4096, 1000],
      ],
    });
    await bring({ to: device });
    assert.equal(data.replays[0]?.target?.fresh, false);
    const expected = Buffer.from(before);
    image.copy(expected, 0, 0, 4096);
    image.copy(expected, 20 * 4096, 20 * 4096, SIZE);
    assert.ok(readFileSync(device).equals(expected));
  });

  it('refuses a device that is too small, in use, holds a signature, or is the image', async () => {
    const small = await loopDevice(cleanup, 16 * 4096);
    const device = await loopDevice(cleanup, 24 * 4096);
    await make();
    await assert.rejects(bring({ to: small, force: true }), { code, message: /is too small: 65536 bytes/ });
    data.signatures.set(device, { type: 'xfs', usage: 'filesystem' });
    await assert.rejects(bring({ to: device }), {
      code,
      message: /holds a xfs filesystem signature; with force it is overwritten/,
    });
    await bring({ to: device, force: true });
    assert.ok(readFileSync(device).subarray(0, SIZE).equals(image));
    backup = join(folder, 'on-device');
    await make({ image: { kind: 'device', path: device, offset: 0 } });
    await assert.rejects(bring({ to: device, imageDevice: device, force: true }), {
      code,
      message: /is part of the backup itself/,
    });
  });

  it('refuses a backup that broke, with force as well', async () => {
    await make({ state: 'broken' });
    await assert.rejects(bring({ force: true }), { code: 'ERR_SNAPBAK_INCOMPLETE' });
    assert.equal(existsSync(to), false);
  });

  it('touches nothing if the checksum file is damaged', async () => {
    await make();
    writeFileSync(to, 'old');
    writeFileSync(join(backup, 'checksums'), Buffer.alloc(84));
    await assert.rejects(bring({ force: true }), { code: 'ERR_SNAPBAK_CORRUPT', message: /checksum file/ });
    assert.equal(readFileSync(to, 'utf8'), 'old');
  });

  it('leaves no file with damaged blocks; without verify it takes them as they are', async () => {
    await make();
    damage(5 * 4096);
    await assert.rejects(bring(), {
      code: 'ERR_SNAPBAK_CORRUPT',
      extent: { offset: 5 * 4096, length: 4096 },
    });
    assert.deepEqual(readdirSync(folder), ['backup']);
    writeFileSync(join(backup, 'checksums'), 'gone');
    await bring({ verify: false });
    assert.equal(data.replays.at(-1)?.check, false);
    assert.ok(readFileSync(to).equals(readFileSync(join(backup, 'data.img'))));
  });

  it('removes the file that it made when it is stopped, and no other', async () => {
    await make();
    for (const existed of [false, true]) {
      if (existed) writeFileSync(to, '');
      const controller = new AbortController();
      let open = () => {};
      data.gate = new Promise((resolve) => {
        open = resolve;
      });
      data.replays.length = 0;
      const running = bring({ signal: controller.signal });
      while (data.replays.length === 0) await new Promise(setImmediate);
      assert.equal(statSync(to).size, SIZE);
      controller.abort(new Error('enough'));
      open();
      await assert.rejects(running, { code: 'ERR_SNAPBAK_ABORTED', message: 'the restore was aborted' });
      assert.equal(existsSync(to), existed);
    }
    await assert.rejects(bring({ signal: AbortSignal.abort() }), { code: 'ERR_SNAPBAK_ABORTED' });
  });

  it('says that the target failed, and removes the file that it made', async () => {
    await make();
    data.failing.set('replay', nativeError(28, 'target'));
    await assert.rejects(bring(), {
      code,
      errno: -28,
      message: /cannot write what is restored: .*\(ENOSPC\)/,
    });
    assert.equal(existsSync(to), false);
  });

  it('wants arguments of the right kind', async () => {
    const error = (options: object, message: RegExp) =>
      assert.rejects(bring(options as Partial<RestoreOptions>), { name: 'TypeError', message });
    await error({ to: undefined }, /options\.to must be a string/);
    await error({ verify: 'no' }, /options\.verify must be a boolean/);
    await error({ force: 1 }, /options\.force must be a boolean/);
    await error({ From: 1 }, /options\.From is not an option/);
    await assert.rejects(bring({ to: '' }), { name: 'RangeError' });
  });
});
