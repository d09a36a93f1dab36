import assert from 'node:assert/strict';
import { existsSync, fstatSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '../../../lib/manifest.js';
import { deviceTarget } from '../../../lib/target/device-target.js';
import type { TargetContext } from '../../../lib/target/target.js';
import { draft } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dataBinding } from '../../helpers/fake-binding.js';
import { fakeInfo } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';

const SIZE = 2 ** 20;
const code = 'ERR_SNAPBAK_TARGET_REFUSED';

describe('a device target', () => {
  const cleanup = new Cleanup();
  const context: TargetContext = { size: SIZE, blockSize: 4096, origin: fakeInfo(SIZE) };
  const data = dataBinding();
  const native = () => data.native;
  let device: string;
  let directory: string;
  before(async () => {
    device = await loopDevice(cleanup, SIZE + 4096);
  });
  beforeEach(() => {
    directory = join(cleanup.folder('target'), 'backup');
  });
  afterEach(() => data.signatures.clear());
  after(() => cleanup.run());

  it('puts the image on the device, and the rest beside it', async () => {
    const target = deviceTarget(device, { directory }, { native });
    assert.equal(target.description, `device ${device}, with directory ${directory}`);
    const prepared = await target.prepare(context);
    assert.ok(
      'fd' in prepared.native && prepared.native.fresh === false,
      'what the device holds is not zero',
    );
    assert.equal(fstatSync(prepared.native.fd).rdev, statSync(device).rdev);
    const manifest = await prepared.commit(draft(SIZE));
    await prepared.close();
    await prepared.close();
    assert.deepEqual(manifest.image, { kind: 'device', path: device, offset: 0 });
    assert.deepEqual(await readManifest(directory), manifest);
    assert.deepEqual(readdirSync(directory).sort(), ['checksums', 'manifest.json']);
  });

  it('names the device as the user did, not as it is called today', async () => {
    const link = join(cleanup.folder('link'), 'by-id');
    symlinkSync(device, link);
    const prepared = await deviceTarget(link, { directory }, { native }).prepare(context);
    assert.deepEqual(prepared.image, { kind: 'device', path: link, offset: 0 });
    await prepared.close();
  });

  it('is claimed until it is closed, and leaves nothing if the backup never began', async () => {
    const prepared = await deviceTarget(device, { directory }, { native }).prepare(context);
    const second = deviceTarget(device, { directory: `${directory}2` }, { native });
    await assert.rejects(second.prepare(context), { code, path: device, message: /is in use/ });
    await prepared.close();
    assert.equal(existsSync(directory), false);
    await (await second.prepare(context)).close();
  });

  it('is refused if it is smaller than the origin', async () => {
    const large = { ...context, size: SIZE + 4097 };
    await assert.rejects(deviceTarget(device, { directory }, { native }).prepare(large), {
      code,
      message: /is too small: 1052672 bytes/,
    });
    assert.equal(existsSync(directory), false);
  });

  it('is refused if it holds a signature, but for force', async () => {
    data.signatures.set(device, { type: 'LVM2_member', usage: 'raid' });
    await assert.rejects(deviceTarget(device, { directory }, { native }).prepare(context), {
      code,
      message: /holds a LVM2_member raid signature/,
    });
    await (await deviceTarget(device, { directory, force: true }, { native }).prepare(context)).close();
  });

  it('is refused if it is a file, or the origin itself', async () => {
    const file = join(cleanup.folder('file'), 'file');
    writeFileSync(file, Buffer.alloc(SIZE));
    await assert.rejects(deviceTarget(file, { directory }, { native }).prepare(context), {
      code,
      message: /is no block device/,
    });
    const own = { ...context, origin: { ...fakeInfo(SIZE), lowerDev: statSync(device).rdev } };
    await assert.rejects(deviceTarget(device, { directory, force: true }, { native }).prepare(own), {
      code,
      message: /is the origin itself/,
    });
  });

  it('is given back if the directory is refused', async () => {
    mkdirSync(directory);
    writeFileSync(join(directory, 'x'), '');
    await assert.rejects(deviceTarget(device, { directory }, { native }).prepare(context), {
      code,
      path: directory,
      message: /is not empty/,
    });
    await (await deviceTarget(device, { directory: `${directory}2` }, { native }).prepare(context)).close();
  });

  it('wants arguments of the right kind', () => {
    assert.throws(() => deviceTarget('', { directory }), { name: 'RangeError', message: /path/ });
    assert.throws(() => deviceTarget('/dev/x', undefined as unknown as { directory: string }), {
      name: 'TypeError',
      message: /options/,
    });
    assert.throws(() => deviceTarget('/dev/x', {} as { directory: string }), {
      name: 'TypeError',
      message: /options\.directory/,
    });
    assert.throws(() => deviceTarget('/dev/x', { directory: '' }), {
      name: 'RangeError',
      message: /options\.directory/,
    });
  });
});
