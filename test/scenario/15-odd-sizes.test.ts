// Devices whose size is a multiple of nothing, and a last block that is shorter.
import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  directoryTarget,
  openEmbedded,
  readManifest,
  restore,
  startBackup,
  verify,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit } from '../helpers/cli.js';
import { expectSame, makeImage, seeded, stamped } from '../helpers/images.js';
import { qemuIo, restored, serveImage, startBackup as startCliBackup } from '../helpers/served-image.js';

const SIZES = [1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 196_609, 1_048_575, 3_211_777];

describe('devices of odd sizes', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  for (const blockSize of [4096, 65_536, 1_048_576]) {
    it(`come back byte for byte with blocks of ${blockSize}`, async () => {
      for (const size of SIZES) {
        const folder = cleanup.folder(`size-${size}`);
        const image = join(folder, 'disk.img');
        await makeImage(image, size);
        const start = join(folder, 'start.img');
        await copyFile(image, start);
        const model = await readFile(image);
        const origin = await openEmbedded(image);
        cleanup.defer('close the origin', () => origin.close());
        const target = directoryTarget(join(folder, 'backup'));
        const backup = await startBackup({ origin, target, blockSize, rate: 4 << 20 });
        const random = seeded(size * 7 + blockSize);
        for (let i = 0; i < 20; i += 1) {
          const offset = random(size);
          const length = 1 + random(Math.min(size - offset, 100_000));
          const data = stamped(offset, length, i + 2);
          await origin.write(offset, data);
          data.copy(model, offset);
        }
        // the very last byte, and beyond
        await origin.write(size - 1, Buffer.from([0x7e]));
        model[size - 1] = 0x7e;
        await assert.rejects(origin.write(size - 1, Buffer.from([1, 2])), RangeError);
        await backup.finished;
        await origin.close();
        await verify({ backup: join(folder, 'backup') });
        await restore({ backup: join(folder, 'backup'), to: join(folder, 'restored.img') });
        await expectSame(join(folder, 'restored.img'), start);
        assert.ok((await readFile(image)).equals(model), `${size}: the image has not the last writes`);
        const manifest = await readManifest(join(folder, 'backup'));
        assert.deepEqual(manifest.blocks, [[0, size]]);
      }
    });
  }

  it('can be served: the last sectors are captured and restored', async () => {
    const size = 8 * 1_048_576 + 3 * 512;
    const served = await serveImage(cleanup, { size });
    const start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
    const directory = join(served.folder, 'backup');
    const backup = startCliBackup(cleanup, served.origin, directory, '--rate', '4M');
    await backup.event('started');
    await qemuIo(
      served.uri,
      'write -P 0x11 8M 1536',
      `write -P 0x12 ${size - 512} 512`,
      'write -P 0x13 8191k 2k',
    );
    await expectExit(0, backup.finished);
    await expectSame(await restored(directory), start);
    await qemuIo(served.uri, `read -P 0x12 ${size - 512} 512`);
  });
});
