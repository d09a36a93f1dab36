// The target fails: the backup fails and says why, nothing says complete, and
// the origin does not notice.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliRun, expectExit, snapbak, told } from '../helpers/cli.js';
import { faultyDevice, loopDevice, smallTmpfs } from '../helpers/faulty-device.js';
import { expectSame } from '../helpers/images.js';
import { startLoad } from '../helpers/load.js';
import { MountedFs } from '../helpers/mounted-fs.js';
import { must } from '../helpers/programs.js';
import {
  qemuIo,
  restored,
  type ServedImage,
  saysComplete,
  serveImage,
  startBackup,
  untilIdle,
} from '../helpers/served-image.js';

const MiB = 1 << 20;
const SIZE = 64 * MiB;

describe('a target that fails', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
  });
  afterEach(() => cleanup.run());

  /** The backup fails by its target, with that errno in its message. */
  async function endsByItsTarget(backup: CliRun, why: RegExp): Promise<void> {
    const result = await backup.finished;
    const last = result.events.at(-1);
    // 3: it broke while it ran; 1: the page cache took the writes, and the last flush told
    const status = last?.event === 'broken' ? 3 : 1;
    assert.equal(result.code, status, told(result));
    assert.ok(last?.event === 'broken' || last?.event === 'error', told(result));
    assert.equal(last.code, 'ERR_SNAPBAK_TARGET');
    assert.match(String(last.message), why);
  }

  /** The origin serves on, and a backup to a good place is good. */
  async function originIsUnharmed(): Promise<void> {
    await untilIdle(served.origin);
    const now = join(served.folder, 'now.img');
    await qemuIo(served.uri, 'flush');
    await copyFile(served.image, now);
    const good = join(served.folder, 'good');
    const backup = startBackup(cleanup, served.origin, good);
    assert.equal((await backup.finished).code, 0);
    await expectSame(await restored(good), now);
  }

  it('because it is full', async () => {
    const directory = join(await smallTmpfs(cleanup, 24 * MiB), 'backup');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 48 * MiB, rate: 24 * MiB });
    const backup = startBackup(cleanup, served.origin, directory);
    await endsByItsTarget(backup, /ENOSPC/);
    assert.equal(await saysComplete(directory), false);
    await load.verified();
    await originIsUnharmed();
  });

  it('because its device answers with EIO', async () => {
    // a FUSE file of the origin's own size would be refused: it might be the origin
    const device = await faultyDevice(cleanup, SIZE + MiB);
    const directory = join(served.folder, 'backup');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 48 * MiB, rate: 12 * MiB });
    const options = ['--target-device', device.path, '--rate', '12M'];
    const backup = startBackup(cleanup, served.origin, directory, ...options);
    await backup.event('progress', (event) => Number(event.doneBytes) > SIZE / 8);
    device.fail('write');
    await endsByItsTarget(backup, /EIO/);
    assert.equal(await saysComplete(directory), false);
    await load.verified();
    await originIsUnharmed();
  });

  it('because what was written does not get to the disk of its file system', async () => {
    const device = await faultyDevice(cleanup, 2 * SIZE);
    await must('mkfs.ext4', ['-q', device.path]);
    const mountPoint = cleanup.folder('mnt');
    await must('mount', [device.path, mountPoint]);
    cleanup.defer(`unmount ${mountPoint}`, () => must('umount', [mountPoint]));
    const directory = join(mountPoint, 'backup');
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '24M');
    await backup.event('progress', (event) => Number(event.doneBytes) > SIZE / 8);
    device.fail('write');
    await endsByItsTarget(backup, /EIO|EROFS/);
    device.heal();
    assert.equal(await saysComplete(directory), false);
    await originIsUnharmed();
  });

  it('because it lies on the origin itself: it is refused, as a directory and as a device', async () => {
    const disk = await loopDevice(cleanup, SIZE);
    const own = await serveImage(cleanup, { image: disk });
    const fs = await MountedFs.make('ext4', own.nbdSocket, own.folder);
    cleanup.defer('unmount', () => fs.close());
    const inside = join(fs.mountPoint, 'backup');
    for (const args of [
      [inside],
      [join(own.folder, 'backup'), '--target-device', fs.device],
      [join(own.folder, 'backup'), '--target-device', disk, '--force'],
    ]) {
      const { events } = await expectExit(1, snapbak('backup', own.origin, ...args, '--json'));
      assert.equal(events.find((event) => event.event === 'error')?.code, 'ERR_SNAPBAK_TARGET_REFUSED');
    }
    assert.equal(existsSync(inside), false, 'it left something behind');
  });
});
