// The container is full and nothing drains it: writes are held, and the policy
// says what happens when that takes too long.
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Origin, openOrigin } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliRun, expectExit } from '../helpers/cli.js';
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
} from '../helpers/served-image.js';

const MiB = 1 << 20;
const SIZE = 48 * MiB;

describe('writes are held because the container is full', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let origin: Origin;
  let start: string;
  let directory: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
    start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
    directory = join(served.folder, 'backup');
    origin = await openOrigin(served.origin);
    cleanup.defer('close the origin', () => origin.close());
  });
  afterEach(() => cleanup.run());

  const heldNow = async () => (await origin.status()).counters.heldNow;

  /** A backup whose process stands still, so that nothing drains, and a load that runs into that. */
  async function standstill(
    ...options: string[]
  ): Promise<{ backup: CliRun; load: ReturnType<typeof startLoad> }> {
    const slots = ['--container', 'memory:256K', '--rate', '8M'];
    const backup = startBackup(cleanup, served.origin, directory, ...slots, ...options);
    await backup.event('started');
    backup.child.kill('SIGSTOP');
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 24 * MiB, rate: 200 * MiB });
    await until('writes are held', async () => (await heldNow()) > 0);
    return { backup, load };
  }

  it("with 'break', a hold past its time breaks the backup: exit status 3, every write goes on", async () => {
    const begin = performance.now();
    const { backup, load } = await standstill('--hold-timeout', '2s', '--on-full', 'break');
    await load.verified();
    const took = performance.now() - begin;
    assert.ok(took < 30_000, `the writes took ${took} ms`);
    const status = await origin.status();
    assert.equal(status.counters.heldNow, 0);
    assert.ok(status.counters.heldMaxNs >= 1.9e9, `held for ${status.counters.heldMaxNs} ns only`);
    assert.ok(status.counters.heldMaxNs < 8e9, `held for ${status.counters.heldMaxNs} ns`);
    backup.child.kill('SIGCONT');
    const { events } = await expectExit(3, backup.finished);
    assert.equal(events.at(-1)?.event, 'broken');
    assert.equal(events.at(-1)?.code, 'ERR_SNAPBAK_HOLD_TIMEOUT');
    assert.equal(await saysComplete(directory), false);
    await qemuIo(served.uri, 'write -P 0x21 1M 64k', 'read -P 0x21 1M 64k');
  });

  it("with 'hold', writes stay held past that time, and the backup is complete in the end", async () => {
    const { backup, load } = await standstill('--hold-timeout', '500ms', '--on-full', 'hold');
    const since = performance.now();
    while (performance.now() - since < 2000) {
      assert.ok((await heldNow()) > 0, 'a write was let go');
      assert.ok(load.running(), 'fio ended, though its writes are held');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    backup.child.kill('SIGCONT');
    await load.verified();
    const { events } = await expectExit(0, backup.finished);
    assert.ok(
      events.some((event) => event.event === 'hold'),
      'no hold event',
    );
    await expectSame(await restored(directory), start);
  });

  it('reads, and writes to blocks that are safe already, are never held', async () => {
    const { backup, load } = await standstill('--hold-timeout', '5m', '--on-full', 'hold', '--rate', '8M');
    // reads of the whole device pass
    await qemuIo(served.uri, `read 0 ${SIZE / 2}`, `read ${SIZE / 2} ${SIZE / 2}`, 'flush');
    assert.ok((await heldNow()) > 0);
    backup.child.kill('SIGCONT');
    await load.verified();
    assert.equal((await backup.finished).code, 0);
    await expectSame(await restored(directory), start);
  });
});
