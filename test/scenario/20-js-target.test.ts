// A target written in JavaScript: it sets the pace, memory stays bounded, and
// what it throws ends the backup without harm to the origin.
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import {
  type CustomTarget,
  memoryContainer,
  openOrigin,
  SnapbakError,
  startBackup,
} from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectSame } from '../helpers/images.js';
import { startLoad } from '../helpers/load.js';
import { qemuIo, type ServedImage, serveImage, untilIdle } from '../helpers/served-image.js';

const MiB = 1 << 20;
const SIZE = 128 * MiB;

/** Writes to a file, as slowly as it is told to, and keeps account. */
class AccountingTarget {
  outstanding = 0;
  mostOutstanding = 0;
  calls = 0;
  bytes = 0;
  flushes = 0;
  closes = 0;
  afterClose = 0;
  #path: string;
  #pause: () => Promise<void>;
  #file: Promise<Awaited<ReturnType<typeof open>>> | undefined;

  constructor(path: string, pause: () => Promise<void> = async () => {}) {
    this.#path = path;
    this.#pause = pause;
  }

  async write(offset: number, data: Buffer): Promise<void> {
    if (this.closes > 0) this.afterClose += 1;
    this.calls += 1;
    this.outstanding += data.length;
    this.mostOutstanding = Math.max(this.mostOutstanding, this.outstanding);
    await this.#pause();
    this.#file ??= open(this.#path, 'w');
    await (await this.#file).write(data, 0, data.length, offset);
    this.outstanding -= data.length;
    this.bytes += data.length;
  }

  async flush(): Promise<void> {
    assert.equal(this.outstanding, 0, 'flushed with writes under way');
    this.flushes += 1;
    await (await this.#file)?.sync();
  }

  async close(): Promise<void> {
    this.closes += 1;
    await (await this.#file)?.close();
  }
}

describe('a target written in JavaScript', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let start: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
    start = join(served.folder, 'start.img');
    await copyFile(served.image, start);
  });
  afterEach(() => cleanup.run());

  it('sets the pace: what it has not taken yet is bounded, and so is memory, under a load of writes', async () => {
    const image = join(served.folder, 'target.img');
    const target = new AccountingTarget(image, () => new Promise((resolve) => setTimeout(resolve, 5)));
    const origin = await openOrigin(served.origin);
    cleanup.defer('close the origin', () => origin.close());
    const before = process.memoryUsage().rss;
    const backup = await startBackup({ origin, target, container: memoryContainer(4 * MiB) });
    cleanup.defer('end the backup', () => backup[Symbol.asyncDispose]());
    const load = startLoad(cleanup, served.uri, { size: SIZE, bytes: 64 * MiB, rate: 64 * MiB });
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 50);
    try {
      const result = await backup.finished;
      assert.equal(result.state, 'complete');
    } finally {
      clearInterval(watch);
    }
    await load.verified();
    assert.equal(target.flushes > 0, true, 'it was never told to flush');
    assert.equal(target.closes, 1);
    assert.equal(target.afterClose, 0);
    assert.equal(target.outstanding, 0);
    assert.ok(target.mostOutstanding <= 16 * MiB, `${target.mostOutstanding} bytes were handed out at once`);
    assert.ok(most - before < 160 * MiB, `memory grew by ${(most - before) / MiB} MiB`);
    await expectSame(image, start, SIZE);
  });

  it('gets every listed byte once', async () => {
    const target = new AccountingTarget(join(served.folder, 'target.img'));
    const origin = await openOrigin(served.origin);
    const backup = await startBackup({ origin, target });
    await backup.finished;
    await origin.close();
    assert.equal(target.bytes, SIZE);
  });

  for (const [what, spoil] of [
    ['a write', { write: () => Promise.reject(new Error('the cloud is down')) }],
    [
      'a write, at once and not by a promise',
      {
        write: () => {
          throw new Error('the cloud is down');
        },
      },
    ],
    ['the flush', { flush: () => Promise.reject(new Error('the cloud is down')) }],
  ] as const) {
    it(`that fails in ${what}: ERR_SNAPBAK_TARGET with its reason; closed once; the origin goes on`, async () => {
      let closes = 0;
      const target: CustomTarget = {
        write() {},
        flush() {},
        ...(spoil as Partial<CustomTarget>),
        close: async () => {
          closes += 1;
        },
      };
      const origin = await openOrigin(served.origin);
      const backup = await startBackup({ origin, target });
      await assert.rejects(backup.finished, (error: unknown) => {
        assert.ok(SnapbakError.is(error), String(error));
        assert.equal(error.code, 'ERR_SNAPBAK_TARGET');
        assert.match(error.message, /the cloud is down/);
        return true;
      });
      await backup[Symbol.asyncDispose]();
      assert.equal(closes, 1);
      await origin.close();
      await untilIdle(served.origin);
      await qemuIo(served.uri, 'write -P 0x41 5M 1M', 'read -P 0x41 5M 1M');
    });
  }

  it('that never answers can be left by abort()', async () => {
    let release = (): void => {};
    const never = new Promise<void>((resolve) => {
      release = resolve;
    });
    const target = { write: () => never, flush: async () => {}, close: async () => {} };
    const origin = await openOrigin(served.origin);
    const backup = await startBackup({ origin, target });
    const finished = assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED' });
    const aborting = backup.abort();
    // writers do not wait for the target's answer to the abort
    await qemuIo(served.uri, 'write -P 0x42 0 4M', 'read -P 0x42 0 4M');
    release();
    await aborting;
    await finished;
    await origin.close();
  });

  it('that never says that it has flushed can be left by abort()', async () => {
    const never = new Promise<void>(() => {});
    const target = { write: () => {}, flush: () => never, close: () => {} };
    const origin = await openOrigin(served.origin);
    const backup = await startBackup({ origin, target });
    while (backup.state !== 'finishing') await turn();
    const finished = assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED' });
    await backup.abort();
    await finished;
    await qemuIo(served.uri, 'write -P 0x42 0 4M', 'read -P 0x42 0 4M');
    await origin.close();
  });

  it('can be a stream of the image as it was', async () => {
    const pieces = new Map<number, Buffer>();
    const target = {
      write: (offset: number, data: Buffer) => {
        pieces.set(offset, data);
      },
      flush: () => {},
      close: () => {},
    };
    const origin = await openOrigin(served.origin);
    const backup = await startBackup({ origin, target });
    await qemuIo(served.uri, 'write -P 0x43 64M 32M');
    await backup.finished;
    await origin.close();
    const whole = Buffer.concat([...pieces].sort(([a], [b]) => a - b).map(([, data]) => data));
    let at = 0;
    for await (const chunk of createReadStream(start, { highWaterMark: MiB })) {
      assert.ok(
        (chunk as Buffer).equals(whole.subarray(at, at + (chunk as Buffer).length)),
        `differs near ${at}`,
      );
      at += (chunk as Buffer).length;
    }
    assert.equal(at, whole.length);
  });
});
