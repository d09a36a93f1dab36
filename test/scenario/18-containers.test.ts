// The container's second tier: few slots, a file or a device behind them; and
// all that is refused as one.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliResult, expectExit, snapbak, told } from '../helpers/cli.js';
import { faultyDevice, loopDevice, smallTmpfs } from '../helpers/faulty-device.js';
import { expectSame } from '../helpers/images.js';
import { startLoad } from '../helpers/load.js';
import { must } from '../helpers/programs.js';
import { qemuIo, restored, type ServedImage, serveImage, startBackup } from '../helpers/served-image.js';

const MiB = 1 << 20;
const SIZE = 24 * MiB;
/** Of whatever is captured: a load that a busy machine slows down may never fill half of the slots. */
const SPILL_SOON = ['--watermarks', 'low=0,high=1'];

describe('a container with a second tier', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let start: string;
  let directory: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
    start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
    directory = join(served.folder, 'backup');
  });
  afterEach(() => cleanup.run());

  /** A load that captures faster than one slow target drains, so that blocks must spill. */
  async function spills(...options: string[]): Promise<void> {
    const slots = ['--container', 'memory:256K', '--block-size', '16K', '--rate', '2M'];
    const backup = startBackup(cleanup, served.origin, directory, ...slots, ...SPILL_SOON, ...options);
    await backup.event('started');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 24 * MiB, rate: 400 * MiB });
    await load.verified();
    const { events } = await expectExit(0, backup.finished);
    const finished = events.at(-1) as unknown as { event: string; stats: { spilledBlocks: number } };
    assert.equal(finished.event, 'finished');
    assert.ok(finished.stats.spilledBlocks > 0, 'nothing was spilled');
    assert.ok(
      events.some((event) => event.event === 'spill'),
      'no spill event',
    );
    await expectSame(await restored(directory), start);
  }

  it('in a file: blocks spill there and come back', async () => {
    const file = join(cleanup.folder('tier2'), 'container');
    await spills('--container', `file:${file}:8M`);
    assert.equal(existsSync(file), false, 'the container was left behind');
  });

  it('on a device: blocks spill there and come back', async () => {
    await spills('--container', `device:${await loopDevice(cleanup, 16 * MiB)}`);
  });

  it('in two files, in their order', async () => {
    const folder = cleanup.folder('tier2');
    const [first, second] = [join(folder, 'first'), join(folder, 'second')];
    await spills('--container', `file:${first}:1M`, '--container', `file:${second}:8M`);
    assert.deepEqual(readdirSync(folder), [], 'a container was left behind');
  });

  /** Starts a backup with so few slots that it spills to a device at once. */
  const spillingTo = (path: string, rate: string) =>
    startBackup(
      cleanup,
      served.origin,
      directory,
      ...SPILL_SOON,
      ...[
        '--block-size',
        '16K',
        '--rate',
        rate,
        '--container',
        'memory:256K',
        '--container',
        `device:${path}`,
      ],
    );

  it('on a device that fails: it is given up, said so, and the backup is right or broken, never wrong', async () => {
    const device = await faultyDevice(cleanup, 16 * MiB);
    // a sweep that leaves time for a load that begins late: what is swept needs no spilling
    const backup = spillingTo(device.path, '1M');
    await backup.event('started');
    device.fail('write');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 24 * MiB, rate: 400 * MiB });
    await load.verified();
    // nothing that was spilled is lost, for nothing could be spilled
    const { events } = await expectExit(0, backup.finished);
    assert.ok(
      events.some((event) => event.event === 'spill' && event.lost === true),
      'nobody was told that the second tier is lost',
    );
    await expectSame(await restored(directory), start);
  });

  it('on a device that cannot be read back: the session breaks, the origin does not', async () => {
    const device = await faultyDevice(cleanup, 16 * MiB);
    const backup = spillingTo(device.path, '1M');
    await backup.event('started');
    device.fail('read');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 24 * MiB, rate: 400 * MiB });
    await load.verified();
    const { events } = await expectExit(3, backup.finished);
    assert.equal(events.at(-1)?.event, 'broken');
    assert.equal(events.at(-1)?.code, 'ERR_SNAPBAK_CONTAINER_LOST');
    await qemuIo(served.uri, 'write -P 0x31 1M 64k', 'read -P 0x31 1M 64k');
  });
});

describe('a container is refused', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: 8 * MiB });
  });
  afterEach(() => cleanup.run());

  async function refused(why: RegExp, ...options: string[]): Promise<CliResult> {
    const directory = join(served.folder, 'backup');
    const result = await snapbak('backup', served.origin, directory, '--json', ...options);
    assert.equal(result.code, 1, told(result));
    const error = result.events.find((event) => event.event === 'error');
    assert.equal(error?.code, 'ERR_SNAPBAK_CONTAINER', told(result));
    assert.match(String(error?.message), why);
    assert.equal(existsSync(directory), false, 'it left something behind');
    return result;
  }

  it('that is a file in memory (tmpfs)', async () => {
    const tmpfs = await smallTmpfs(cleanup, 64 * MiB);
    await refused(/in memory/, '--container', `file:${tmpfs}/container:8M`);
    assert.equal(existsSync(join(tmpfs, 'container')), false);
  });

  it('that is the image of the origin', async () => {
    await refused(/origin/, '--container', `file:${served.image}:8M`);
  });

  it('that is too small', async () => {
    await refused(/too small/, '--container', `file:${served.folder}/container:64K`);
    await refused(/less than one block/, '--container', 'memory:4K');
  });

  it('that exists already, or lies nowhere', async () => {
    await refused(/exists/, '--container', `file:${join(import.meta.dirname, '18-containers.test.ts')}:8M`);
    await refused(/does not exist/, '--container', `file:${served.folder}/no/such/container:8M`);
  });

  it('that does not fit', async () => {
    const device = await loopDevice(cleanup, 8 * MiB);
    await must('mkfs.ext4', ['-q', device]);
    const mountPoint = cleanup.folder('small');
    await must('mount', [device, mountPoint]);
    cleanup.defer(`unmount ${mountPoint}`, () => must('umount', [mountPoint]));
    await refused(/free|space|ENOSPC/, '--container', `file:${mountPoint}/container:8M`);
    assert.equal(existsSync(join(mountPoint, 'container')), false);
  });

  it('that is no device, or one with a file system on it, unless forced', async () => {
    await refused(/device/, '--container', `device:${served.image}`);
    const device = await loopDevice(cleanup, 16 * MiB);
    await must('mkfs.ext4', ['-q', device]);
    await refused(/ext4/, '--container', `device:${device}`);
    const directory = join(served.folder, 'forced');
    const forced = await snapbak(
      'backup',
      served.origin,
      directory,
      '--container',
      `device:${device}`,
      '--force',
    );
    assert.equal(forced.code, 0, told(forced));
  });

  it('that is mounted, forced or not', async () => {
    const device = await loopDevice(cleanup, 16 * MiB);
    await must('mkfs.ext4', ['-q', device]);
    const mountPoint = cleanup.folder('mnt');
    await must('mount', [device, mountPoint]);
    cleanup.defer(`unmount ${mountPoint}`, () => must('umount', [mountPoint]));
    await refused(/use|busy|mounted/i, '--container', `device:${device}`, '--force');
  });
});

describe('a container that would wait for its own origin', () => {
  it('is refused on a file system that lives on the export', async () => {
    const { MountedFs } = await import('../helpers/mounted-fs.js');
    const cleanup = new Cleanup();
    try {
      // a served block device, so that the file system on it can be traced
      const device = await loopDevice(cleanup, 64 * MiB);
      await must('mkfs.ext4', ['-q', device]);
      const served = await serveImage(cleanup, { image: device });
      const fs = await MountedFs.make('ext4', served.nbdSocket, served.folder);
      cleanup.defer('unmount', () => fs.close());
      const inside = `file:${fs.mountPoint}/container:8M`;
      const result = await snapbak(
        'backup',
        served.origin,
        join(served.folder, 'backup'),
        '--json',
        '--container',
        inside,
      );
      assert.equal(result.code, 1, told(result));
      assert.equal(result.events.find((event) => event.event === 'error')?.code, 'ERR_SNAPBAK_CONTAINER');
      assert.equal(existsSync(join(fs.mountPoint, 'container')), false);
    } finally {
      await cleanup.run();
    }
  });
});
