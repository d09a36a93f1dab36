import assert from 'node:assert/strict';
import { constants, fstatSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerContext } from '../../../lib/container/container.js';
import { deviceContainer } from '../../../lib/container/device-container.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dataBinding } from '../../helpers/fake-binding.js';
import { fakeInfo } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';
import { must } from '../../helpers/programs.js';

const MiB = 2 ** 20;
const code = 'ERR_SNAPBAK_CONTAINER';

describe('a container with a device', () => {
  const cleanup = new Cleanup();
  const context: ContainerContext = { origin: fakeInfo(64 * MiB), blockSize: 65_536 };
  const data = dataBinding();
  const native = () => data.native;
  let device: string;
  before(async () => {
    device = await loopDevice(cleanup, 4 * MiB + 4096);
  });
  afterEach(() => data.signatures.clear());
  after(() => cleanup.run());

  it('is opened direct and claimed, in whole blocks, and given back', async () => {
    const open = await deviceContainer(device, { memory: MiB }, { native }).open(context);
    assert.equal(open.slots, 16);
    assert.equal(open.tiers?.[0]?.capacity, 4 * MiB);
    assert.equal(open.tiers?.[0]?.direct, true);
    const flags = Number.parseInt(
      /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${open.tiers![0]!.fd}`, 'utf8'))![1]!,
      8,
    );
    assert.ok(flags & constants.O_DIRECT);
    assert.throws(() => openSync(device, constants.O_RDONLY | constants.O_EXCL), { code: 'EBUSY' });
    await open.close();
    assert.throws(() => fstatSync(open.tiers![0]!.fd), { code: 'EBADF' });
    await open.close();
  });

  it('is used up to a size, and resized up to that of the device', async () => {
    const container = deviceContainer(device, { size: 2 * MiB + 1 }, { native });
    assert.equal(container.description, `64 MiB of memory, then 2 MiB of device ${device}`);
    const open = await container.open(context);
    assert.equal(open.tiers![0]!.capacity, 2 * MiB);
    const moves: number[] = [];
    open.tiers![0]!.begin!(async (capacity) => void moves.push(capacity));
    await container.resize(4 * MiB + 4096);
    await container.resize(MiB);
    assert.deepEqual(moves, [4 * MiB, MiB]);
    const resize = 'ERR_SNAPBAK_RESIZE';
    await assert.rejects(container.resize(4 * MiB + 4097), { code: resize, message: /it has 4 MiB/ });
    await assert.rejects(container.resize(MiB - 1), { code: resize, message: /the least is 16 blocks/ });
    await open.close();
    await assert.rejects(container.resize(MiB), { code: resize, message: /no backup uses it/ });
    await assert.rejects(deviceContainer(device, { size: 5 * MiB }, { native }).open(context), {
      code,
      message: /has 4 MiB, less than 5 MiB/,
    });
    await assert.rejects(deviceContainer(device, { size: MiB - 1 }, { native }).open(context), {
      code,
      message: /is too small, the least is 1 MiB/,
    });
  });

  it('is refused while it is in use', async () => {
    const first = await deviceContainer(device, {}, { native }).open(context);
    await assert.rejects(deviceContainer(device, {}, { native }).open(context), {
      code,
      path: device,
      message: /is in use: it is mounted, or part of/,
    });
    await first.close();
    await must('mkfs.ext4', ['-q', device]);
    const mountPoint = cleanup.folder('mnt');
    await must('mount', [device, mountPoint]);
    try {
      await assert.rejects(deviceContainer(device, { force: true }, { native }).open(context), {
        code,
        message: /is in use/,
      });
    } finally {
      await must('umount', [mountPoint]);
    }
  });

  it('is refused if it holds a signature, but for force', async () => {
    data.signatures.set(device, { type: 'ext4', usage: 'filesystem' });
    await assert.rejects(deviceContainer(device, {}, { native }).open(context), {
      code,
      message: /holds a ext4 filesystem signature; with force it is overwritten/,
    });
    await (await deviceContainer(device, { force: true }, { native }).open(context)).close();
  });

  it('is refused below 16 blocks', async () => {
    const large = { ...context, blockSize: MiB };
    await assert.rejects(deviceContainer(device, {}, { native }).open(large), {
      code,
      message: /is too small: 4198400 bytes .*needed are 16777216/,
    });
  });

  it('is refused if it is no block device, is not there, or cannot be written', async () => {
    const file = join(cleanup.folder('file'), 'file');
    writeFileSync(file, Buffer.alloc(2 * MiB));
    await assert.rejects(deviceContainer(file, {}, { native }).open(context), {
      code,
      message: /is no block device/,
    });
    await assert.rejects(deviceContainer('/dev/null', {}, { native }).open(context), {
      code,
      message: /is no block device/,
    });
    await assert.rejects(deviceContainer('/dev/missing', {}, { native }).open(context), {
      code,
      errno: -2,
      message: /\(ENOENT\)/,
    });
    const readOnly = (await must('losetup', ['--show', '-r', '-f', file])).trim();
    cleanup.defer('detach', () => must('losetup', ['-d', readOnly]));
    await assert.rejects(deviceContainer(readOnly, {}, { native }).open(context), {
      code,
      message: /is read-only/,
    });
  });

  it('is refused if it is the origin, by its number or by the image under it', async () => {
    const lower = async (origin: object) =>
      deviceContainer(device, {}, { native }).open({
        origin: { ...fakeInfo(64 * MiB), ...origin },
        blockSize: 65_536,
      });
    const { rdev } = statSync(device);
    await assert.rejects(lower({ lowerDev: rdev }), { code, message: /is the origin itself/ });
    const backing = (await must('losetup', ['-n', '-O', 'BACK-FILE', device])).trim();
    const { dev, ino } = statSync(backing);
    await assert.rejects(lower({ lowerFsDev: dev, lowerInode: ino }), {
      code,
      message: /lies on the origin itself \(loop\d+, over /,
    });
  });

  it('wants arguments of the right kind', () => {
    assert.throws(() => deviceContainer('', {}), { name: 'RangeError', message: /path/ });
    assert.throws(() => deviceContainer('/dev/x', { force: 'yes' } as object), {
      name: 'TypeError',
      message: /options\.force .*"yes"/,
    });
  });
});
