import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '../../../lib/manifest.js';
import { directoryTarget } from '../../../lib/target/directory-target.js';
import type { TargetContext } from '../../../lib/target/target.js';
import { TOOL_VERSION } from '../../../lib/tool-version.js';
import { draft } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { fakeHost } from '../../helpers/fake-host.js';
import { fakeInfo } from '../../helpers/fake-session.js';
import { smallTmpfs } from '../../helpers/faulty-device.js';

const SIZE = 5 * 4096 + 1;
const refusedCode = 'ERR_SNAPBAK_TARGET_REFUSED';

function fdOf(native: object): number {
  assert.ok('fd' in native);
  return native.fd as number;
}

describe('a directory target', () => {
  const cleanup = new Cleanup();
  const context: TargetContext = { size: SIZE, blockSize: 4096, origin: fakeInfo(SIZE) };
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = cleanup.folder('target');
    path = join(folder, 'backup');
  });
  after(() => cleanup.run());

  it('makes a directory with a sparse image and its checksums, all private', async () => {
    const target = directoryTarget(path);
    assert.equal(target.description, `directory ${path}`);
    const prepared = await target.prepare(context);
    assert.deepEqual(readdirSync(path).sort(), ['checksums', 'data.img']);
    assert.equal(statSync(path).mode & 0o777, 0o700);
    const image = statSync(join(path, 'data.img'));
    assert.deepEqual([image.size, image.blocks, image.mode & 0o777], [SIZE, 0, 0o600]);
    const sums = statSync(join(path, 'checksums'));
    assert.deepEqual([sums.size, sums.mode & 0o777], [24, 0o600]);
    assert.equal(fstatSync(fdOf(prepared.native)).ino, image.ino);
    assert.equal((prepared.native as { fresh: boolean }).fresh, true);
    assert.equal(fstatSync(prepared.checksumsFd).ino, sums.ino);
    assert.deepEqual(prepared.image, { kind: 'file', name: 'data.img' });
    await prepared.close();
  });

  it('is private though the process lets everybody in', async () => {
    const umask = process.umask(0);
    try {
      const prepared = await directoryTarget(path).prepare(context);
      await prepared.commit(draft(SIZE));
      await prepared.close();
    } finally {
      process.umask(umask);
    }
    assert.equal(statSync(path).mode & 0o777, 0o700);
    for (const name of ['checksums', 'data.img', 'manifest.json']) {
      assert.equal(statSync(join(path, name)).mode & 0o777, 0o600, name);
    }
  });

  it('stays in its directory though a link takes its place meanwhile', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    const [moved, other] = [join(folder, 'moved'), join(folder, 'other')];
    renameSync(path, moved);
    mkdirSync(other);
    symlinkSync(other, path);
    await prepared.commit(draft(SIZE));
    await prepared.close();
    assert.deepEqual(readdirSync(other), []);
    assert.deepEqual(readdirSync(moved).sort(), ['checksums', 'data.img', 'manifest.json']);
  });

  it('commits with a manifest that names the digest of the checksums', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    writeSync(prepared.checksumsFd, Buffer.alloc(24, 7), 0, 24, 0);
    const written = draft(SIZE);
    const manifest = await prepared.commit(written);
    assert.deepEqual(manifest, {
      formatVersion: 1,
      tool: { name: 'snapbak', version: TOOL_VERSION },
      ...written,
      image: { kind: 'file', name: 'data.img' },
      checksums: {
        name: 'checksums',
        algorithm: 'crc32c',
        sha256: createHash('sha256').update(Buffer.alloc(24, 7)).digest('hex'),
      },
    });
    await prepared.close();
    assert.deepEqual(await readManifest(path), manifest);
    assert.deepEqual(readdirSync(path).sort(), ['checksums', 'data.img', 'manifest.json']);
  });

  it('says complete for good once it is committed', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    await prepared.commit(draft(SIZE));
    await prepared.fail(draft(SIZE, 4096, { state: 'broken' }));
    await prepared.close();
    assert.equal((await readManifest(path)).state, 'complete');
  });

  it('says broken when the backup failed, whatever state the draft has', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    await prepared.fail(draft(SIZE, 4096, { error: { code: 'ERR_SNAPBAK_TARGET', message: 'no space' } }));
    await prepared.close();
    const manifest = await readManifest(path);
    assert.equal(manifest.state, 'broken');
    assert.equal(manifest.error?.message, 'no space');
    assert.ok(existsSync(join(path, 'data.img')), 'what was copied stays for whoever wants to look');
  });

  it('never commits what is broken', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    await assert.rejects(prepared.commit(draft(SIZE, 4096, { state: 'broken' })), { name: 'RangeError' });
    await prepared.close();
    assert.equal(existsSync(join(path, 'manifest.json')), false);
  });

  it('that cannot commit has no complete manifest, and may say broken later', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    mkdirSync(join(path, 'manifest.json'));
    await assert.rejects(prepared.commit(draft(SIZE)), {
      code: 'ERR_SNAPBAK_TARGET',
      message: /manifest\.json/,
    });
    await prepared.fail(draft(SIZE));
    await prepared.close();
    assert.deepEqual(readdirSync(path).sort(), ['checksums', 'data.img', 'manifest.json']);
  });

  it('does not throw though the disk is too full to say broken', async () => {
    const full = join(await smallTmpfs(cleanup, 65_536), 'backup');
    const prepared = await directoryTarget(full).prepare({ ...context, size: 2 ** 20 });
    assert.throws(
      () => {
        for (;;) writeSync(fdOf(prepared.native), Buffer.alloc(4096, 1));
      },
      { code: 'ENOSPC' },
    );
    await prepared.fail(draft(2 ** 20));
    await prepared.close();
    assert.deepEqual(readdirSync(full).sort(), ['checksums', 'data.img']);
  });

  it('removes what it made if the backup never began', async () => {
    const prepared = await directoryTarget(path).prepare(context);
    await prepared.close();
    await prepared.close();
    assert.equal(existsSync(path), false);
    assert.throws(() => fstatSync(prepared.checksumsFd), { code: 'EBADF' });
  });

  it('takes an empty directory as it is, and leaves it when the backup never began', async () => {
    mkdirSync(path);
    chmodSync(path, 0o750);
    const prepared = await directoryTarget(path).prepare(context);
    assert.equal(statSync(path).mode & 0o777, 0o750);
    await prepared.close();
    assert.deepEqual(readdirSync(path), []);
  });

  it('is refused if the directory holds anything, a backup above all', async () => {
    mkdirSync(path);
    writeFileSync(join(path, 'notes'), 'mine');
    await assert.rejects(directoryTarget(path).prepare(context), {
      code: refusedCode,
      path,
      message: /backup is not empty/,
    });
    writeFileSync(join(path, 'manifest.json'), '{}');
    await assert.rejects(directoryTarget(path).prepare(context), {
      code: refusedCode,
      message: /holds a backup already/,
    });
    assert.deepEqual(readdirSync(path).sort(), ['manifest.json', 'notes']);
    assert.equal(readFileSync(join(path, 'notes'), 'utf8'), 'mine');
  });

  it('is refused if it is a file, a loose link, or has no parent', async () => {
    writeFileSync(path, 'x');
    await assert.rejects(directoryTarget(path).prepare(context), {
      code: refusedCode,
      message: /is no directory/,
    });
    await assert.rejects(directoryTarget(join(folder, 'no', 'backup')).prepare(context), {
      code: refusedCode,
      message: /its parent directory .*no does not exist/,
    });
    symlinkSync(join(folder, 'nowhere'), join(folder, 'link'));
    await assert.rejects(directoryTarget(join(folder, 'link')).prepare(context), {
      code: 'ERR_SNAPBAK_TARGET',
      message: /EEXIST/,
    });
  });

  it('is refused if it is the image of the origin, or could depend on it', async () => {
    writeFileSync(path, 'disk');
    const { dev, ino } = statSync(path);
    const own = { ...context, origin: { ...fakeInfo(SIZE), lowerInode: ino, lowerFsDev: dev } };
    await assert.rejects(directoryTarget(path).prepare(own), {
      code: refusedCode,
      message: /is the origin itself/,
    });
    const host = fakeHost({
      mounts: { [folder]: { device: '43:0' } },
      devices: { '43:0': { name: 'nbd0', size: SIZE } },
      files: { [folder]: {} },
    });
    const served = join(folder, 'new');
    await assert.rejects(directoryTarget(served, { host }).prepare(context), {
      code: refusedCode,
      path: served,
      message: /could wait for the writes that the backup holds: it lies on nbd0/,
    });
    assert.equal(existsSync(served), false);
  });

  it('is an error where it cannot be made, and leaves nothing', async () => {
    await assert.rejects(directoryTarget('/proc/backup').prepare(context), {
      code: 'ERR_SNAPBAK_TARGET',
      message: /cannot make the directory \/proc\/backup/,
    });
    const huge = directoryTarget(path).prepare({ ...context, size: 2 ** 53 - 4096 });
    await assert.rejects(huge, {
      code: 'ERR_SNAPBAK_TARGET',
      message: /cannot make .* of \d+ bytes: .*\(E(FBIG|INVAL)\)/,
    });
    assert.equal(existsSync(path), false);
  });

  it('wants a path', () => {
    assert.throws(() => directoryTarget(undefined as unknown as string), {
      name: 'TypeError',
      message: /path/,
    });
    assert.throws(() => directoryTarget(''), { name: 'RangeError', message: /path/ });
  });
});
