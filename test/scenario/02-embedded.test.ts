// The embedded driver, with the real addon: a program that writes through
// openEmbedded() backs its own image up while it goes on writing. The restored
// image is the one of the start instant, the origin holds every write.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Backup,
  type BackupEvent,
  type BackupOptions,
  BlockList,
  directoryTarget,
  type EmbeddedOrigin,
  fileContainer,
  memoryContainer,
  openEmbedded,
  readManifest,
  restore,
  startBackup,
  verify,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';

const MiB = 2 ** 20;

/** Keeps several writes, zeroes and discards of any alignment under way, and a copy of what must come of them. */
class Writer {
  writes = 0;
  #running = true;
  readonly #loops: Promise<void>[];

  constructor(
    private readonly origin: EmbeddedOrigin,
    readonly expected: Buffer,
    lanes = 8,
  ) {
    // each lane has its own part of the device: what two writes at once leave is not defined
    const part = Math.floor(expected.length / lanes);
    this.#loops = Array.from({ length: lanes }, (_, lane) => this.#lane(lane * part, part));
  }

  async #lane(from: number, length: number): Promise<void> {
    while (this.#running) {
      const size = 1 + Math.floor(Math.random() * 100_000);
      const offset = from + Math.floor(Math.random() * (length - size));
      const kind = Math.random();
      if (kind < 0.8) {
        const data = randomBytes(size);
        await this.origin.write(offset, data, { fua: kind < 0.02 });
        this.expected.set(data, offset);
      } else if (kind < 0.97) {
        await this.origin.writeZeroes(offset, size, { mayTrim: kind < 0.9 });
        this.expected.fill(0, offset, offset + size);
      } else {
        await this.origin.flush();
      }
      this.writes++;
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
  }
}

/** Waits for what writers must bring about in the end. */
async function until(what: string, fulfilled: () => boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!fulfilled()) {
    if (Date.now() > deadline) throw new Error(`not in 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function digest(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

describe('an embedded origin', () => {
  let cleanup: Cleanup;
  let folder: string;
  beforeEach(() => {
    cleanup = new Cleanup();
    folder = cleanup.folder('embedded');
  });
  afterEach(() => cleanup.run());

  async function makeOrigin(size: number): Promise<{ origin: EmbeddedOrigin; start: Buffer; path: string }> {
    const path = join(folder, 'disk.img');
    const start = randomBytes(size);
    start.fill(0, Math.floor(size / 4), Math.floor(size / 2));
    const file = await open(path, 'w');
    await file.write(start);
    await file.close();
    const origin = await openEmbedded(path);
    cleanup.defer('close the origin', () => origin.close());
    return { origin, start, path };
  }

  async function backUpUnderWrites(
    size: number,
    options: (folder: string) => Partial<BackupOptions>,
    meanwhile: (backup: Backup) => Promise<void> = async () => {},
  ) {
    const { origin, start, path } = await makeOrigin(size);
    const before = new Writer(origin, Buffer.from(start));
    await until('fifty writes', () => before.writes >= 50);
    await before.stop();
    const instant = Buffer.from(before.expected);
    const directory = join(folder, 'backup');
    const backup = await startBackup({ origin, target: directoryTarget(directory), ...options(folder) });
    const events: BackupEvent[] = [];
    const reading = (async () => {
      for await (const event of backup.events()) events.push(event);
    })();
    const writer = new Writer(origin, Buffer.from(instant));
    await meanwhile(backup);
    const result = await backup.finished;
    await writer.stop();
    await reading;
    assert.ok(writer.writes > 0, 'nothing was written during the backup');
    const status = await origin.status();
    assert.equal(status.counters.heldNow, 0);
    assert.equal(digest(await origin.read(0, size)), digest(writer.expected), 'the origin lost a write');
    await origin.close();
    assert.equal(digest(await readFile(path)), digest(writer.expected), 'the image lost a write');
    return { instant, result, directory, events, writes: writer.writes };
  }

  it('is backed up while it is written: the restored image is the start instant, byte for byte', async () => {
    const size = 96 * MiB + 4567; // a last block of its own size
    const { instant, result, directory, events } = await backUpUnderWrites(
      size,
      () => ({ rate: MiB }),
      async (backup) => {
        await until('captures', () => backup.stats().capturedBlocks > 100);
        backup.setRate(undefined);
      },
    );
    assert.equal(result.state, 'complete');
    assert.equal((await readManifest(directory)).id, result.id);
    await verify({ backup: directory });
    const to = join(folder, 'restored.img');
    await restore({ backup: directory, to });
    assert.equal(digest(await readFile(to)), digest(instant));
    assert.equal(events[0]?.event, 'started');
    assert.equal(events.at(-1)?.event, 'finished');
    assert.equal(events.filter(({ event }) => event === 'finished').length, 1);
  });

  it('with four slots of memory and small blocks: writers are held and let go, nothing is lost', async () => {
    const { instant, result, directory } = await backUpUnderWrites(
      24 * MiB,
      () => ({ blockSize: 4096, rate: 4096, container: memoryContainer(4 * 4096) }),
      async (backup) => {
        await until(
          'held writes',
          () => backup.stats().writers.held > 20 && backup.stats().wantedBlocks > 20,
        );
        backup.setRate(undefined);
      },
    );
    assert.equal(result.stats.writers.heldNow, 0);
    const { writers, latency, capturedBlocks } = result.stats;
    assert.equal(latency.capture.count, capturedBlocks);
    assert.ok(latency.capture.p50Ms > 0 && latency.capture.p99Ms <= latency.capture.maxMs);
    assert.ok(latency.hold.count >= writers.held, 'held again counts again');
    assert.equal(latency.hold.maxMs, writers.heldMaxMs);
    const to = join(folder, 'restored.img');
    await restore({ backup: directory, to });
    assert.equal(digest(await readFile(to)), digest(instant));
  });

  it('at a limited rate, spilling to a file, with wishes, a pause and a new rate', async () => {
    const { instant, result, directory, events } = await backUpUnderWrites(
      48 * MiB,
      (at) => ({
        rate: 8 * MiB,
        container: fileContainer(join(at, 'tier2'), 32 * MiB, { memory: MiB }),
      }),
      async (backup) => {
        backup.prioritize([{ offset: 40 * MiB, length: MiB }]);
        backup.pause();
        await until('a spill', () => backup.stats().spilledBlocks > 0);
        backup.resume();
        backup.setRate(undefined);
      },
    );
    assert.ok(result.stats.spilledBlocks > 0);
    assert.ok(events.some(({ event }) => event === 'spill'));
    const to = join(folder, 'restored.img');
    await restore({ backup: directory, to });
    assert.equal(digest(await readFile(to)), digest(instant));
  });

  it('of a part: only what the block list names is in the backup', async () => {
    const blocks = BlockList.extents([
      { offset: 3 * MiB, length: 2 * MiB },
      { offset: 10 * MiB + 5, length: 1 },
    ]);
    const { instant, directory } = await backUpUnderWrites(16 * MiB, () => ({ blocks }));
    const image = await readFile(join(directory, 'data.img'));
    const expected = Buffer.alloc(16 * MiB);
    for (const { offset, length } of blocks.alignTo(65_536, 16 * MiB)) {
      instant.copy(expected, offset, offset, offset + length);
    }
    assert.equal(digest(image), digest(expected));
  });

  it('is not harmed when the backup is aborted in the middle, and can be backed up again', async () => {
    const { origin, start } = await makeOrigin(32 * MiB);
    const writer = new Writer(origin, Buffer.from(start));
    const directory = join(folder, 'aborted');
    const backup = await startBackup({ origin, target: directoryTarget(directory), rate: MiB });
    await assert.rejects(startBackup({ origin, target: directoryTarget(join(folder, 'second')) }), {
      code: 'ERR_SNAPBAK_BUSY',
    });
    await backup.abort('enough');
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED' });
    assert.equal((await readManifest(directory)).state, 'broken');
    await assert.rejects(verify({ backup: directory }), { code: 'ERR_SNAPBAK_INCOMPLETE' });
    await writer.stop();
    assert.equal(digest(await origin.read(0, 32 * MiB)), digest(writer.expected));
    const again = await startBackup({ origin, target: directoryTarget(join(folder, 'again')) });
    assert.equal((await again.finished).state, 'complete');
    assert.equal(digest(await readFile(join(folder, 'again', 'data.img'))), digest(writer.expected));
  });

  it('that is closed under a backup breaks it, and leaves no good manifest', async () => {
    const { origin } = await makeOrigin(8 * MiB);
    const directory = join(folder, 'backup');
    const backup = await startBackup({ origin, target: directoryTarget(directory), rate: 65_536 });
    await origin.close();
    await assert.rejects(backup.finished, (error: { code?: string }) =>
      ['ERR_SNAPBAK_BROKEN', 'ERR_SNAPBAK_DRIVER_GONE'].includes(error.code ?? ''),
    );
    assert.equal((await readManifest(directory)).state, 'broken');
  });
});
