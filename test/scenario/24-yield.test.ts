// The sweep and the application share a device that cannot serve both at once:
// the sweep yields, as far as it was told to, and no longer than it must.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type BackupOptions, directoryTarget, openEmbedded, startBackup } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { makeImage } from '../helpers/images.js';
import { slowDevice } from '../helpers/nbdkit-device.js';

const MiB = 1 << 20;
const SIZE = 160 * MiB;
const DEVICE_RATE = 32 * MiB;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('a sweep beside an application', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  /** An origin on a device of DEVICE_RATE, and a target for its backup. */
  async function slowOrigin() {
    const folder = cleanup.folder('yield');
    const backing = join(folder, 'content');
    await makeImage(backing, SIZE);
    const origin = await openEmbedded(await slowDevice(cleanup, folder, backing, DEVICE_RATE));
    cleanup.defer('close the origin', () => origin.close());
    return { origin, target: directoryTarget(join(folder, 'backup')) };
  }

  /** The mean time of small reads, milliseconds, while a backup with these options runs for `seconds`. */
  async function beside(options: Partial<BackupOptions>, seconds: number) {
    const { origin, target } = await slowOrigin();
    let reading = true;
    const took: number[] = [];
    const application = (async () => {
      for (let at = 0; reading; at = (at + 7_340_032) % (SIZE - 4096)) {
        const begun = performance.now();
        await origin.read(at - (at % 4096), 4096);
        took.push(performance.now() - begun);
        await sleep(2);
      }
    })();
    const backup = await startBackup({ origin, target, ...options });
    await sleep(1500); // until it has settled
    took.splice(0);
    await sleep(seconds * 1000);
    const { foreground, doneBytes } = backup.stats();
    const mean = took.reduce((sum, ms) => sum + ms, 0) / took.length;
    reading = false;
    await application;
    return { backup, mean, foreground, doneBytes };
  }

  it('yields to it, and takes the device when it is quiet again', async function () {
    this.timeout(120_000);
    const rude = await beside({ latencyGoal: 'none' }, 1);
    await rude.backup.abort();
    assert.deepEqual(rude.foreground, {});
    const kind = await beside({}, 2);
    assert.ok(kind.mean < rude.mean / 2, `${kind.mean} ms beside it, ${rude.mean} ms if it does not yield`);
    assert.ok(kind.foreground.sweepLimit! < DEVICE_RATE, JSON.stringify(kind.foreground));
    const { doneBytes } = kind;
    assert.ok(doneBytes > 0 && doneBytes < SIZE, `${doneBytes} bytes are done`);
    const { state, seconds } = await kind.backup.finished;
    assert.equal(state, 'complete');
    // alone it is through in five seconds; at its floor the rest would take a minute
    assert.ok(seconds < 3.5 + (SIZE - doneBytes) / (DEVICE_RATE / 3) + 2, `${seconds} s`);
  });

  it('follows a new rate within a second', async function () {
    this.timeout(60_000);
    const backup = await startBackup({ ...(await slowOrigin()), rate: 4 * MiB });
    /** Of the second that begins a second after the change. */
    const speed = async (rate: number | undefined) => {
      backup.setRate(rate);
      await sleep(1000);
      const [from, at] = [backup.stats().readBytes, performance.now()];
      await sleep(1000);
      return ((backup.stats().readBytes - from) * 1000) / (performance.now() - at) / MiB;
    };
    const speeds = [];
    for (const rate of [4, 12, undefined, 2]) speeds.push(await speed(rate && rate * MiB));
    const [four, twelve, free, two] = speeds as [number, number, number, number];
    const told = speeds.map((n) => n.toFixed(1)).join(', ');
    assert.ok(four > 2 && four < 6, told);
    assert.ok(twelve > 8 && twelve < 14, told);
    assert.ok(free > 16, told);
    assert.ok(two > 1 && two < 3, told);
    await backup.abort();
  });
});
