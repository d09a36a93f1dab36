import assert from 'node:assert/strict';
import { existsSync, fstatSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerContext } from '../../../lib/container/container.js';
import { fileContainer } from '../../../lib/container/file-container.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dataBinding } from '../../helpers/fake-binding.js';
import { fakeHost } from '../../helpers/fake-host.js';
import { fakeInfo, nativeError } from '../../helpers/fake-session.js';
import { smallTmpfs } from '../../helpers/faulty-device.js';

const MiB = 2 ** 20;
const code = 'ERR_SNAPBAK_CONTAINER';

describe('a container with a file', () => {
  const cleanup = new Cleanup();
  const context: ContainerContext = { origin: fakeInfo(64 * MiB), blockSize: 65_536 };
  let folder: string;
  let data: ReturnType<typeof dataBinding>;
  const native = () => data.native;
  beforeEach(() => {
    folder = cleanup.folder('container');
    data = dataBinding();
  });
  after(() => cleanup.run());

  it('is allocated in whole blocks, direct and private, and has no name from the start', async () => {
    const path = join(folder, 'container');
    const container = fileContainer(path, 2 * MiB + 5, { memory: MiB }, { native });
    assert.equal(container.description, `1 MiB of memory, then 2 MiB of file ${path}`);
    const open = await container.open(context);
    assert.equal(open.slots, 16);
    assert.equal(open.tiers?.[0]?.capacity, 2 * MiB);
    assert.equal(open.tiers?.[0]?.direct, true);
    assert.deepEqual(data.preallocated, [2 * MiB]);
    const stats = fstatSync(open.tiers![0]!.fd);
    assert.equal(stats.size, 2 * MiB);
    assert.equal(stats.mode & 0o777, 0o600);
    assert.equal(stats.nlink, 0, 'a killed process leaves nothing behind');
    assert.deepEqual(readdirSync(folder), []);
    await open.close();
    assert.throws(() => fstatSync(open.tiers![0]!.fd), { code: 'EBADF' });
    await open.close();
  });

  it('has 64 MiB of memory by default, and never more of anything than the origin has blocks', async () => {
    const open = await fileContainer(join(folder, 'container'), 8 * MiB, {}, { native }).open({
      origin: fakeInfo(3 * MiB),
      blockSize: 65_536,
    });
    assert.equal(open.slots, 48);
    assert.equal(open.tiers?.[0]?.capacity, 3 * MiB);
    await open.close();
  });

  it('is refused below 16 blocks', async () => {
    const small = fileContainer(join(folder, 'container'), 16 * 65_536 - 1, {}, { native });
    await assert.rejects(small.open(context), {
      code,
      message: /is too small, the least is 16 blocks \(1 MiB\)/,
    });
    assert.deepEqual(readdirSync(folder), []);
  });

  it('is refused where something is already, and leaves it alone', async () => {
    const path = join(folder, 'container');
    writeFileSync(path, 'mine');
    await assert.rejects(fileContainer(path, MiB, {}, { native }).open(context), {
      code,
      path,
      message: /exists already/,
    });
    assert.equal(statSync(path).size, 4);
    const link = join(folder, 'link');
    symlinkSync(join(folder, 'nowhere'), link);
    await assert.rejects(fileContainer(link, MiB, {}, { native }).open(context), { code, message: /EEXIST/ });
    assert.equal(existsSync(join(folder, 'nowhere')), false);
  });

  it("is refused if it is the origin's image, or lies on the origin", async () => {
    const path = join(folder, 'disk.img');
    writeFileSync(path, 'disk');
    const { dev, ino } = statSync(path);
    const origin = { ...fakeInfo(64 * MiB), lowerInode: ino, lowerFsDev: dev };
    await assert.rejects(fileContainer(path, MiB, {}, { native }).open({ origin, blockSize: 65_536 }), {
      code,
      message: /is the origin's image/,
    });
    const host = fakeHost({
      mounts: { '/mnt': { device: '8:16' } },
      devices: { '8:16': { name: 'sdb' } },
      files: { '/mnt': {} },
    });
    const lower = { origin: { ...fakeInfo(64 * MiB), lowerDev: 8 * 256 + 16 }, blockSize: 65_536 };
    await assert.rejects(fileContainer('/mnt/container', MiB, {}, { native, host }).open(lower), {
      code,
      message: /could wait for the writes that it is there to release: it lies on the origin itself \(sdb\)/,
    });
  });

  it('is refused if it is the image of another origin of the backup', async () => {
    const path = join(folder, 'other.img');
    writeFileSync(path, 'an image');
    const { dev, ino } = statSync(path);
    const neighbour = { ...fakeInfo(MiB), id: 'other.img', lowerFsDev: dev, lowerInode: ino };
    const open = fileContainer(path, MiB, {}, { native }).open({ ...context, neighbours: [neighbour] });
    await assert.rejects(open, {
      code,
      path,
      message: /could wait for writes to another origin of the backup, other\.img: it is its image/,
    });
  });

  it('is refused on a file system in memory', async () => {
    const path = join(await smallTmpfs(cleanup, 8 * MiB), 'container');
    await assert.rejects(fileContainer(path, MiB, {}, { native }).open(context), {
      code,
      message: /is on a file system in memory/,
    });
  });

  it('is refused where it cannot be made', async () => {
    const message = /the directory .*missing does not exist/;
    await assert.rejects(fileContainer(join(folder, 'missing', 'c'), MiB, {}, { native }).open(context), {
      code,
      message,
    });
    await assert.rejects(fileContainer('/proc/container', MiB, {}, { native }).open(context), {
      code,
      message: /cannot make \/proc\/container/,
    });
  });

  it('is refused without enough space, or when allocation fails, and leaves nothing', async () => {
    const path = join(folder, 'container');
    const big = { origin: fakeInfo(2 ** 50), blockSize: 65_536 };
    await assert.rejects(fileContainer(path, 2 ** 50, { memory: MiB }, { native }).open(big), {
      code,
      message: /needs 1 PiB, its file system has .* free/,
    });
    data.failing.set('preallocate', nativeError(28, 'preallocate'));
    await assert.rejects(fileContainer(path, MiB, {}, { native }).open(context), {
      code,
      errno: -28,
      message: /cannot allocate 1 MiB for .*container: no space left on device \(ENOSPC\)/,
    });
    assert.deepEqual(readdirSync(folder), []);
  });

  it('is resized while a backup uses it, in whole blocks, as far as the origin', async () => {
    const container = fileContainer(join(folder, 'container'), 2 * MiB, {}, { native });
    const resize = 'ERR_SNAPBAK_RESIZE';
    const unused = { code: resize, message: /no backup uses it/ };
    await assert.rejects(container.resize(3 * MiB), unused);
    const open = await container.open({ origin: fakeInfo(8 * MiB), blockSize: 65_536 });
    const tier = open.tiers![0]!;
    assert.equal(tier.description, `file ${join(folder, 'container')}`);
    const moves: number[] = [];
    tier.begin!(async (capacity) => {
      assert.ok(fstatSync(tier.fd).size >= capacity, 'the space was not there yet');
      moves.push(capacity);
    });
    await container.resize(4 * MiB + 5);
    await container.resize(100 * MiB);
    assert.equal(fstatSync(tier.fd).size, 8 * MiB);
    await container.resize(MiB + 65_535);
    assert.equal(fstatSync(tier.fd).size, MiB);
    assert.deepEqual(moves, [4 * MiB, 8 * MiB, MiB]);
    assert.deepEqual(data.preallocated, [2 * MiB, 2 * MiB, 4 * MiB]);
    await assert.rejects(container.resize(MiB - 1), {
      code: resize,
      message: /the least is 16 blocks \(1 MiB\)/,
    });
    await assert.rejects(container.resize(0), { name: 'RangeError', message: /bytes .*got 0/ });
    data.failing.set('preallocate', nativeError(28, 'preallocate'));
    await assert.rejects(container.resize(2 * MiB), { code: resize, errno: -28 });
    assert.equal(fstatSync(tier.fd).size, MiB);
    await open.close();
    await assert.rejects(container.resize(3 * MiB), unused);
  });

  it('cannot be resized beyond the free space', async () => {
    const container = fileContainer(join(folder, 'container'), MiB, { memory: MiB }, { native });
    const open = await container.open({ origin: fakeInfo(2 ** 50), blockSize: 65_536 });
    open.tiers![0]!.begin!(async () => {});
    await assert.rejects(container.resize(2 ** 50), {
      code: 'ERR_SNAPBAK_RESIZE',
      message: /cannot resize .*container: .* needs .*, its file system has .* free/,
    });
    assert.equal(fstatSync(open.tiers![0]!.fd).size, MiB);
    await open.close();
  });

  it('wants arguments of the right kind', () => {
    assert.throws(() => fileContainer(5 as unknown as string, MiB), { name: 'TypeError', message: /path/ });
    assert.throws(() => fileContainer('', MiB), { name: 'RangeError', message: /path/ });
    assert.throws(() => fileContainer('/a', 0), { name: 'RangeError', message: /size .*got 0/ });
    assert.throws(() => fileContainer('/a', MiB, { memory: -1 }), {
      name: 'RangeError',
      message: /options\.memory .*got -1/,
    });
    assert.throws(() => fileContainer('/a', MiB, { memroy: 1 } as object), {
      name: 'TypeError',
      message: /memroy/,
    });
  });
});
