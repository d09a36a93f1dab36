// A backup in the order hot-first copies what was written most lately first, so
// that a writer that goes on where it was needs no captures.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type CustomTarget, type Origin, openEmbedded, openOrigin, startBackup } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit } from '../helpers/cli.js';
import { expectSame, makeImage, stamped } from '../helpers/images.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { until } from '../helpers/programs.js';
import { serveImage, startBackup as startCommand } from '../helpers/served-image.js';

const MiB = 1 << 20;
const BLOCK = 65_536;
const SIZE = 24 * MiB;
/** In the second half, far from each other, and not in this order. */
const HOT = [20, 12, 22, 14, 16, 13, 18, 23].map((place) => place * MiB);

interface Writer {
  write(offset: number, data: Uint8Array): Promise<void>;
}

/** Writes each hot block, in part. */
async function writeHot(writer: Writer, generation: number): Promise<void> {
  for (const offset of HOT) await writer.write(offset, stamped(offset, 4096, generation));
}

/** Keeps an image, and writes down in which order it came. */
function recorder() {
  const image = Buffer.alloc(SIZE);
  const offsets: number[] = [];
  const target: CustomTarget = {
    write(offset, data) {
      offsets.push(offset);
      data.copy(image, offset);
    },
    flush() {},
    close() {},
  };
  return { image, offsets, target };
}

/** Backs up a device to which the hot blocks are written before the start, and again when they are copied. */
async function story(origin: Origin, writer: Writer): Promise<void> {
  await writeHot(writer, 2);
  const { image, offsets, target } = recorder();
  await using backup = await startBackup({ origin, target, order: 'hot-first', rate: 2 * MiB });
  await until('all hot blocks are copied', () => HOT.every((offset) => offsets.includes(offset)));
  // two threads copy: one of them may be late with one of them
  const first = offsets.slice(0, HOT.length - 1);
  assert.ok(
    first.every((offset) => HOT.includes(offset)),
    `not hot: ${first}`,
  );
  await writeHot(writer, 3);
  const { writers, doneBytes } = backup.stats();
  assert.equal(writers.captured, 0, 'they had been copied, and were captured');
  assert.ok(doneBytes < SIZE, 'everything was copied already: it says nothing');
  backup.setRate(undefined);
  await backup.finished;
  for (let offset = 0; offset < SIZE; offset += BLOCK) {
    const want = stamped(offset, BLOCK, 1);
    if (HOT.includes(offset)) want.set(stamped(offset, 4096, 2));
    assert.ok(image.subarray(offset, offset + BLOCK).equals(want), `another block at ${offset}`);
  }
}

describe('the order hot-first', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  it('copies what was written last first, by the user driver, and spares its captures', async () => {
    const served = await serveImage(cleanup, { size: SIZE });
    const client = await NbdClient.connect(served.nbdSocket);
    cleanup.defer('close the NBD client', () => client.close());
    await using origin = await openOrigin(served.origin);
    await story(origin, client);
  });

  it('copies what was written last first, by the embedded driver, and spares its captures', async () => {
    const image = join(cleanup.folder('hot'), 'disk.img');
    await makeImage(image, SIZE);
    await using origin = await openEmbedded(image);
    await story(origin, origin);
  });

  it('is an option of "snapbak backup"', async () => {
    const served = await serveImage(cleanup, { size: MiB });
    const client = await NbdClient.connect(served.nbdSocket);
    cleanup.defer('close the NBD client', () => client.close());
    await client.write(BLOCK, stamped(BLOCK, BLOCK, 2));
    const directory = join(served.folder, 'backup');
    const backup = startCommand(cleanup, served.origin, directory, '--order', 'hot-first');
    const { events } = await expectExit(0, backup.finished);
    assert.equal(events.at(-1)?.state, 'complete');
    await expectSame(join(directory, 'data.img'), served.image);
  });
});
