// Another process tells a running backup what to copy next: it is copied within
// a second, and the rest of the backup still comes to its end.
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  directoryTarget,
  openEmbedded,
  openOrigin,
  startBackup as startLibraryBackup,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit, snapbakExits } from '../helpers/cli.js';
import { expectSame, makeImage, stamped } from '../helpers/images.js';
import { until } from '../helpers/programs.js';
import { type ServedImage, serveImage, startBackup } from '../helpers/served-image.js';

const MiB = 1 << 20;
const BLOCK = 65_536;
const SIZE = 24 * MiB;

/** Is this block of the backup's image there already? */
async function isCopied(directory: string, offset: number): Promise<boolean> {
  const file = await open(join(directory, 'data.img'), 'r');
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(BLOCK), 0, BLOCK, offset);
    return bytesRead === BLOCK && buffer.equals(stamped(offset, BLOCK, 1));
  } finally {
    await file.close();
  }
}

describe('hints of other processes', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let directory: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
    directory = join(served.folder, 'backup');
  });
  afterEach(() => cleanup.run());

  it('are copied next by "snapbak hint", and the rest still finishes', async () => {
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '3M');
    await backup.event('started');
    await snapbakExits(0, 'hint', served.origin, '20M', '64K');
    await until('the hinted block is copied', () => isCopied(directory, 20 * MiB));
    assert.equal(await isCopied(directory, 22 * MiB), false, 'the sweep was there already');
    const { events } = await expectExit(0, backup.finished);
    assert.equal(events.at(-1)?.state, 'complete');
    await expectSame(join(directory, 'data.img'), served.image);
  });

  it('do not starve the block list, though they never end', async () => {
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '6M');
    await backup.event('started');
    await using origin = await openOrigin(served.origin);
    let given = 0;
    // all of the second half, over and over, while the first is being copied
    for (let flooding = true; flooding; given++) {
      await origin.hint([{ offset: SIZE / 2 + (given % 192) * BLOCK, length: BLOCK }]);
      await origin.hint([{ offset: SIZE / 2, length: SIZE / 2 }]);
      const done = backup.events.findLast(({ event }) => event === 'progress')?.doneBytes;
      flooding = typeof done !== 'number' || done < 10 * MiB;
    }
    assert.ok(given > 3, `only ${given} rounds: it was no flood`);
    assert.ok(await isCopied(directory, MiB), 'the list had no share');
    const { events } = await expectExit(0, backup.finished);
    assert.equal(events.at(-1)?.state, 'complete');
    await expectSame(join(directory, 'data.img'), served.image);
  });

  it('are refused, with what is wrong, where they can be of no use', async () => {
    const none = await snapbakExits(1, 'hint', served.origin, '0', '64K', '--json');
    assert.equal(none.events[0]?.code, 'ERR_SNAPBAK_NO_SESSION');
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '3M');
    await backup.event('started');
    const outside = await snapbakExits(2, 'hint', served.origin, '24M', '64K');
    assert.match(outside.stderr, /must end at or before the end of the device/);
    const odd = await snapbakExits(2, 'hint', served.origin, 'here', '64K');
    assert.match(odd.stderr, /not a size/);
    await using origin = await openOrigin(served.origin);
    assert.equal((await origin.status()).counters.hints, 0);
    await origin.hint([{ offset: 0, length: SIZE }]);
    assert.equal((await origin.status()).counters.hints, 1);
    await backup.kill('SIGTERM');
    await assert.rejects(origin.hint([{ offset: 0, length: 1 }]), { code: 'ERR_SNAPBAK_NO_SESSION' });
  });

  it('work with the embedded driver, in the order of the call', async () => {
    const image = join(served.folder, 'own.img');
    await makeImage(image, SIZE);
    await using origin = await openEmbedded(image);
    const file = directoryTarget(directory);
    const backup = await startLibraryBackup({ origin, target: file, rate: MiB, blockSize: BLOCK });
    await origin.hint([20, 22, 18].map((at) => ({ offset: at * MiB, length: 4 * BLOCK })));
    for (const at of [20, 22, 18]) {
      await until(`the block at ${at} MiB is copied`, () => isCopied(directory, at * MiB));
    }
    assert.equal(await isCopied(directory, 23 * MiB), false);
    backup.setRate(undefined);
    assert.equal((await backup.finished).state, 'complete');
    await expectSame(join(directory, 'data.img'), image);
  });
});
