// One session at a time: the second is refused, and after the first there is a next.
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { directoryTarget, openOrigin, startBackup as startBackupByApi } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit, snapbak, told } from '../helpers/cli.js';
import { expectSame } from '../helpers/images.js';
import { qemuIo, restored, type ServedImage, serveImage, startBackup } from '../helpers/served-image.js';

const MiB = 1 << 20;

describe('two backups of one origin', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: 32 * MiB });
  });
  afterEach(() => cleanup.run());

  it('one after the other are each as of their own start', async () => {
    for (const turn of [1, 2, 3]) {
      const start = join(served.folder, `start-${turn}.img`);
      await qemuIo(served.uri, 'flush');
      await copyFile(served.image, start);
      const directory = join(served.folder, `backup-${turn}`);
      const backup = startBackup(cleanup, served.origin, directory, '--rate', '32M');
      await backup.event('started');
      await qemuIo(served.uri, `write -P ${turn} ${turn * 5}M 3M`, `write -P ${turn + 8} 30M 1M`, 'flush');
      await expectExit(0, backup.finished);
      await expectSame(await restored(directory, `restored-${turn}.img`), start);
    }
  });

  it('at once: the second is refused, leaves nothing behind, and the first does not notice', async () => {
    const start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
    const directory = join(served.folder, 'first');
    const first = startBackup(cleanup, served.origin, directory, '--rate', '8M');
    await first.event('started');
    const second = await snapbak('backup', served.origin, join(served.folder, 'second'), '--json');
    assert.equal(second.code, 1, told(second));
    const error = second.events.find((event) => event.event === 'error');
    assert.equal(error?.code, 'ERR_SNAPBAK_BUSY');
    assert.equal(
      second.events.some((event) => event.event === 'started'),
      false,
    );
    const origin = await openOrigin(served.origin);
    const byApi = startBackupByApi({ origin, target: directoryTarget(join(served.folder, 'third')) });
    await assert.rejects(byApi, { name: 'SnapbakError', code: 'ERR_SNAPBAK_BUSY' });
    await origin.close();
    for (const name of ['second', 'third']) {
      const { code } = await snapbak('inspect', join(served.folder, name));
      assert.equal(code, 1, `${name} holds something`);
    }
    const status = await snapbak('status', served.origin, '--json');
    assert.equal(status.code, 0, told(status));
    await expectExit(0, first.finished);
    await expectSame(await restored(directory), start);
  });
});
