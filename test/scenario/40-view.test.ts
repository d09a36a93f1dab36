// The point-in-time view: the origin as of the start instant, read while the
// backup runs under a writer and after it has finished, by this program and by
// NBD programs.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Backup,
  BlockList,
  type CustomTarget,
  directoryTarget,
  type EmbeddedOrigin,
  fileContainer,
  openEmbedded,
  openOrigin,
  type PointInTimeView,
  startBackup,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectSame } from '../helpers/images.js';
import { must, needPrograms, run } from '../helpers/programs.js';
import { qemuIo, serveImage, startBackup as startCommand } from '../helpers/served-image.js';

const MiB = 2 ** 20;
const SIZE = 24 * MiB + 4567; // a last block of its own size

/** Overwrites random places until it is stopped. */
/** Writes anywhere but in the last MiB: with the sweep paused, the backup cannot come to its end. */
class Writer {
  writes = 0;
  #running = true;
  readonly #done: Promise<void>;

  constructor(origin: EmbeddedOrigin) {
    this.#done = this.#write(origin);
  }

  async #write(origin: EmbeddedOrigin): Promise<void> {
    while (this.#running) {
      const length = 1 + Math.floor(Math.random() * 150_000);
      await origin.write(Math.floor(Math.random() * (SIZE - MiB - length)), randomBytes(length));
      this.writes++;
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }
}

/** Fails unless the view has the bytes of `instant`, in pieces that begin and end anywhere. */
async function expectInstant(view: PointInTimeView, instant: Buffer): Promise<void> {
  assert.equal(view.size, instant.length);
  for (let at = 0; at < instant.length; ) {
    const length = Math.min(instant.length - at, 1 + Math.floor(Math.random() * 3 * MiB));
    const got = await view.read(at, length);
    assert.ok(
      got.equals(instant.subarray(at, at + length)),
      `[${at}, ${at + length}) is not the start instant's`,
    );
    at += length;
  }
}

async function until(what: string, fulfilled: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!fulfilled()) {
    if (Date.now() > deadline) throw new Error(`not in 60 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('the point-in-time view', () => {
  let cleanup: Cleanup;
  let folder: string;
  beforeEach(() => {
    cleanup = new Cleanup();
    folder = cleanup.folder('view');
  });
  afterEach(() => cleanup.run());

  async function embedded(): Promise<{ origin: EmbeddedOrigin; instant: Buffer }> {
    const instant = randomBytes(SIZE);
    instant.fill(0, 5 * MiB, 9 * MiB);
    const path = join(folder, 'disk.img');
    await writeFile(path, instant);
    const origin = await openEmbedded(path);
    cleanup.defer('close the origin', () => origin.close());
    return { origin, instant };
  }

  it('is the start instant while it is written, spilled and copied, and stays so until it is closed', async () => {
    const { origin, instant } = await embedded();
    const backup = await startBackup({
      origin,
      target: directoryTarget(join(folder, 'backup')),
      container: fileContainer(join(folder, 'tier2'), 16 * MiB, { memory: MiB }),
      rate: 4 * MiB,
    });
    const view = await backup.view();
    const writer = new Writer(origin);
    await until('captures and spills', () => backup.stats().capturedBlocks > 50);
    backup.pause();
    await expectInstant(view, instant);
    assert.equal(backup.state, 'paused', 'it was read while the backup ran');
    backup.resume();
    backup.setRate(undefined);
    await Promise.all([expectInstant(view, instant), backup.finished]);
    await writer.stop();
    assert.ok(writer.writes > 0);
    await origin.close();
    await expectInstant(view, instant);
    await view.close();
    await assert.rejects(view.read(0, 1), { code: 'ERR_SNAPBAK_VIEW' });
    assert.ok((await readFile(join(folder, 'backup', 'data.img'))).equals(instant));
  });

  it('is the start instant with a target written in JavaScript that has read()', async () => {
    const { origin, instant } = await embedded();
    const kept = Buffer.alloc(SIZE);
    let closed = 0;
    const target: CustomTarget = {
      write: async (offset, data) => void kept.set(data, offset),
      flush() {},
      read: async (offset, length) => {
        assert.equal(closed, 0, 'read after it was closed');
        return kept.subarray(offset, offset + length);
      },
      close: () => void closed++,
    };
    const backup = await startBackup({ origin, target, rate: 8 * MiB });
    const view = await backup.view();
    const writer = new Writer(origin);
    await expectInstant(view, instant);
    backup.setRate(undefined);
    await backup.finished;
    await writer.stop();
    await expectInstant(view, instant);
    assert.equal(closed, 0);
    await view.close();
    await until('the target is closed', () => closed === 1);
  });

  it('is refused with a target that has none, and its reads end with an aborted backup', async () => {
    const { origin } = await embedded();
    const mute = await startBackup({ origin, target: { write() {}, flush() {}, close() {} }, rate: MiB });
    await assert.rejects(mute.view(), { code: 'ERR_SNAPBAK_VIEW' });
    await mute.abort();

    // a target that never answers: a reader would wait for ever
    let asked = 0;
    const never = new Promise<never>(() => {});
    const read = () => {
      asked++;
      return never;
    };
    const target = { write() {}, flush() {}, close() {}, read };
    const backup = await startBackup({ origin, target });
    const view = await backup.view();
    const finished = backup.finished;
    await finished;
    const rejected = assert.rejects(view.read(0, 10), { code: 'ERR_SNAPBAK_VIEW' });
    await until('the target was asked', () => asked === 1);
    await view.close();
    await rejected;

    const slow = await startBackup({ origin, target: directoryTarget(join(folder, 'aborted')), rate: MiB });
    const ended = await slow.view();
    await slow.abort();
    await assert.rejects(ended.read(0, SIZE), { code: 'ERR_SNAPBAK_VIEW', message: /aborted/ });
    await ended.close();
  });

  it('has the block list only: what is not in it, or is taken out, reads as zeroes', async () => {
    const { origin, instant } = await embedded();
    const blocks = BlockList.extents([{ offset: MiB, length: 12 * MiB }]);
    const backup = await startBackup({
      origin,
      target: directoryTarget(join(folder, 'backup')),
      blocks,
      rate: MiB,
    });
    const view = await backup.view();
    const writer = new Writer(origin);
    const gone = BlockList.extents([{ offset: 2 * MiB, length: 9 * MiB }]);
    const taken = (backup as Backup & { unlist(list: BlockList): BlockList }).unlist(gone);
    assert.ok(taken.bytes > 0 && taken.subtract(gone).bytes === 0);
    const expected = Buffer.alloc(SIZE);
    for (const { offset, length } of view.blocks) instant.copy(expected, offset, offset, offset + length);
    await expectInstant(view, expected);
    backup.setRate(undefined);
    const { manifest, stats } = await backup.finished;
    await writer.stop();
    await expectInstant(view, expected);
    await view.close();
    assert.deepEqual(
      manifest.blocks,
      Array.from(view.blocks, ({ offset, length }) => [offset, length]),
    );
    assert.equal(stats.listedBlocks, blocks.subtract(taken).bytes / 65_536);
    assert.ok((await readFile(join(folder, 'backup', 'data.img'))).equals(expected));
  });

  it('reads an origin that another process serves (user driver) while its clients write', async () => {
    const served = await serveImage(cleanup, { size: 32 * MiB });
    const start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
    const origin = await openOrigin(served.origin);
    cleanup.defer('close the origin', () => origin.close());
    const backup = await startBackup({
      origin,
      target: directoryTarget(join(served.folder, 'backup')),
      rate: 2 * MiB,
    });
    const instant = await readFile(start);
    const view = await backup.view();
    let writing = true;
    const writer = (async () => {
      for (let turn = 0; writing; turn++) {
        const places = [3, 31, 17, 28, 9].map((place) => ((place * 7 + turn * 5) % 31) * MiB);
        await qemuIo(served.uri, ...places.map((at) => `write -P ${1 + (turn % 255)} ${at} 1M`));
      }
    })();
    await until('captures', () => backup.stats().capturedBlocks > 20);
    backup.pause(); // nobody writes to the last MiB: it cannot come to its end
    await expectInstant(view, instant);
    assert.equal(backup.state, 'paused');
    backup.resume();
    backup.setRate(undefined);
    await Promise.all([expectInstant(view, instant), backup.finished]);
    writing = false;
    await writer;
    await expectInstant(view, instant);
    await view.close();
  });

  it('is shown to NBD programs by --export, while clients write, and until the backup ends', async () => {
    needPrograms('qemu-img', 'nbdcopy', 'nbdinfo');
    const served = await serveImage(cleanup, { size: 16 * MiB });
    const start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
    const socket = join(served.folder, 'instant.sock');
    const uri = `nbd+unix:///?socket=${socket}`;
    const backup = startCommand(
      cleanup,
      served.origin,
      join(served.folder, 'backup'),
      '--export',
      socket,
      '--rate',
      '64K',
    );
    await backup.event('started');
    await qemuIo(served.uri, 'write -P 0xab 1M 5M', 'write -z 9M 2M', 'write -P 0xcd 16383K 1K');
    assert.match(await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, start]), /identical/);
    const copy = join(served.folder, 'copy.img');
    await must('nbdcopy', [uri, copy]);
    await expectSame(copy, start);
    assert.equal((await stat(socket)).mode & 0o777, 0o600);
    assert.match(await must('nbdinfo', ['--json', uri]), /"is_read_only": true/);
    const { code } = await backup.kill('SIGINT');
    assert.equal(code, 3);
    assert.notEqual((await run('nbdinfo', [uri])).code, 0, 'the export outlived the backup');
  });

  it('is shown to NBD programs for as long as it is wanted by view.export()', async () => {
    needPrograms('nbdcopy');
    const { origin, instant } = await embedded();
    const backup = await startBackup({ origin, target: directoryTarget(join(folder, 'backup')) });
    const view = await backup.view();
    const writer = new Writer(origin);
    const { uri } = await view.export(join(folder, 'instant.sock'));
    await backup.finished;
    await writer.stop();
    const copy = join(folder, 'copy.img');
    await must('nbdcopy', [uri, copy]);
    assert.ok((await readFile(copy)).equals(instant));
    await view.close();
    assert.notEqual((await run('nbdcopy', [uri, copy])).code, 0);
  });

  it('that cannot be shown undoes the start, and leaves nothing behind', async () => {
    const { origin, instant } = await embedded();
    const directory = join(folder, 'backup');
    const target = directoryTarget(directory);
    const nowhere = join(folder, 'missing', 'instant.sock');
    await assert.rejects(startBackup({ origin, target, export: nowhere }), (error: Error) =>
      error.message.includes(nowhere),
    );
    await assert.rejects(stat(directory), { code: 'ENOENT' });
    const backup = await startBackup({ origin, target, export: join(folder, 'instant.sock') });
    assert.equal(backup.exportUri, `nbd+unix:///?socket=${join(folder, 'instant.sock')}`);
    await backup.finished;
    assert.ok((await readFile(join(directory, 'data.img'))).equals(instant));
  });
});
