// kill -9 of the backup process, at the moments that matter: writers go on, no
// acknowledged write is lost, nothing says complete, and the next backup works.
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openOrigin } from '../../lib/origin.js';
import { Cleanup } from '../helpers/cleanup.js';
import { snapbak, told } from '../helpers/cli.js';
import { expectSame } from '../helpers/images.js';
import { startLoad } from '../helpers/load.js';
import { until } from '../helpers/programs.js';
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

describe('the backup process is killed', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let directory: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
    directory = join(served.folder, 'backup');
  });
  afterEach(() => cleanup.run());

  /** A backup of the image as it is now, which must be right. */
  async function nextBackupIsGood(): Promise<void> {
    const now = join(served.folder, 'now.img');
    await qemuIo(served.uri, 'flush');
    await copyFile(served.image, now);
    const next = join(served.folder, 'next');
    const result = await snapbak('backup', served.origin, next, '--json');
    assert.equal(result.code, 0, told(result));
    await expectSame(await restored(next), now);
  }

  async function nothingSaysComplete(): Promise<void> {
    assert.equal(
      await saysComplete(directory),
      false,
      'the manifest of a killed backup says that it is good',
    );
    const verified = await snapbak('verify', directory);
    assert.equal(verified.code, 1, told(verified));
    const refused = await snapbak('restore', directory, join(served.folder, 'never.img'));
    assert.equal(refused.code, 1, told(refused));
  }

  it('as soon as the point in time is fixed', async () => {
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 48 * MiB, rate: 24 * MiB });
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '4M');
    await backup.event('started');
    assert.ok(load.running(), 'fio was done before the kill');
    await backup.kill('SIGKILL');
    await load.verified();
    await untilIdle(served.origin);
    await nothingSaysComplete();
    await nextBackupIsGood();
  });

  it('in the middle of the copying', async () => {
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 64 * MiB, rate: 12 * MiB });
    const backup = startBackup(
      cleanup,
      served.origin,
      directory,
      '--rate',
      '12M',
      '--container',
      'memory:2M',
    );
    await backup.event('progress', (event) => Number(event.doneBytes) > SIZE / 4);
    assert.ok(load.running(), 'fio was done before the kill');
    await backup.kill('SIGKILL');
    await load.verified();
    await untilIdle(served.origin);
    await nothingSaysComplete();
    await nextBackupIsGood();
  });

  it('while writes are held: they are released, long before their time is out', async () => {
    const options = ['--rate', '1M', '--container', 'memory:512K', '--hold-timeout', '10m'];
    const backup = startBackup(cleanup, served.origin, directory, ...options);
    await backup.event('started');
    // a process that stands still drains nothing: soon every slot is taken
    backup.child.kill('SIGSTOP');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 16 * MiB, rate: 64 * MiB });
    const origin = await openOrigin(served.origin);
    await until('writes are held', async () => (await origin.status()).counters.heldNow > 0);
    assert.ok(load.running(), 'fio is done, though its writes are held');
    const begin = performance.now();
    await backup.kill('SIGKILL');
    await until('no write is held', async () => (await origin.status()).counters.heldNow === 0, 5000);
    await load.verified();
    assert.ok(performance.now() - begin < 30_000, 'the writes were released too late');
    await origin.close();
    await untilIdle(served.origin);
    await nothingSaysComplete();
    await nextBackupIsGood();
  });

  it('again and again, at any moment', async () => {
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 96 * MiB, rate: 12 * MiB });
    for (const delay of [100, 300, 500, 600, 700, 800]) {
      const backup = startBackup(cleanup, served.origin, `${directory}-${delay}`, '--rate', '16M');
      await new Promise((resolve) => setTimeout(resolve, delay));
      await backup.kill('SIGKILL');
      assert.equal(await saysComplete(`${directory}-${delay}`), false);
    }
    await load.verified();
    await untilIdle(served.origin);
    await nextBackupIsGood();
  });

  it('by Ctrl-C: the session ends cleanly, and the exit status says that there is no backup', async () => {
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '4M');
    await backup.event('started');
    await qemuIo(served.uri, 'write -P 0x55 32M 1M', 'flush');
    backup.child.kill('SIGINT');
    const { code, signal } = await backup.finished;
    assert.equal(signal, null, `ended by ${signal}`);
    assert.ok(code !== 0 && code !== null, `exit status ${code}`);
    await untilIdle(served.origin);
    await nothingSaysComplete();
    await qemuIo(served.uri, 'read -P 0x55 32M 1M');
    await nextBackupIsGood();
  });
});
