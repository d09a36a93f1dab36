// The origin has sectors that cannot be read: their blocks are left out, said
// so, and everything else is backed up. The exit status is 4.
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit, snapbak, told } from '../helpers/cli.js';
import { faultyDevice } from '../helpers/faulty-device.js';
import { expectSame, makeImage } from '../helpers/images.js';
import { must } from '../helpers/programs.js';
import { qemuIo, serveImage, startBackup } from '../helpers/served-image.js';

const MiB = 1 << 20;
const SIZE = 32 * MiB;

describe('an origin that cannot be read everywhere', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  it('lets the write go on, finishes with invalid blocks, and says which', async () => {
    const folder = cleanup.folder('unreadable');
    const backing = join(folder, 'content');
    await makeImage(backing, SIZE);
    const start = join(folder, 'start.img');
    await copyFile(backing, start);
    const device = await faultyDevice(cleanup, SIZE, backing);
    const served = await serveImage(cleanup, { image: device.path });
    const directory = join(folder, 'backup');
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '4M');
    await backup.event('started');
    // whole blocks near the end, so that nothing has to be read for the write itself
    device.fail('read');
    await qemuIo(served.uri, 'write -P 0x61 30M 128k');
    const invalid = await backup.event('invalid-block');
    device.heal();
    await qemuIo(served.uri, 'read -P 0x61 30M 128k');
    const { events } = await expectExit(4, backup.finished);
    assert.equal(events.at(-1)?.event, 'finished');
    assert.equal(events.at(-1)?.state, 'complete-with-invalid-blocks');
    assert.equal(typeof invalid.block, 'number');

    const manifest = await readManifest(directory);
    assert.equal(manifest.state, 'complete-with-invalid-blocks');
    const lies = (offset: number) =>
      manifest.invalidBlocks.some(([from, length]) => offset >= from && offset < from + length);
    assert.ok(lies(30 * MiB) && lies(30 * MiB + 65_536), JSON.stringify(manifest.invalidBlocks));
    assert.equal((await snapbak('verify', directory)).code === 1, false, 'the good blocks are not good');
    // all but the invalid blocks is the start instant; those are compared as what they were
    const to = join(folder, 'restored.img');
    const restoring = await snapbak('restore', directory, to);
    assert.ok(restoring.code === 0 || restoring.code === 4, told(restoring));
    for (const [offset, length] of manifest.invalidBlocks) {
      await must('dd', [
        `if=${start}`,
        `of=${to}`,
        'bs=64k',
        'conv=notrunc',
        'iflag=skip_bytes,count_bytes',
        'oflag=seek_bytes',
        `skip=${offset}`,
        `seek=${offset}`,
        `count=${length}`,
      ]);
    }
    await expectSame(to, start);
  });
});
