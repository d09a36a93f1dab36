import assert from 'node:assert/strict';
import { readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from '../../../lib/manifest.js';
import { type CustomTarget, customTarget } from '../../../lib/target/custom-target.js';
import { directoryTarget } from '../../../lib/target/directory-target.js';
import type { TargetContext } from '../../../lib/target/target.js';
import { targetFrom } from '../../../lib/target/target-from.js';
import { draft } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { fakeHost } from '../../helpers/fake-host.js';
import { fakeInfo } from '../../helpers/fake-session.js';

const BLOCKS = 600_000; // 2.3 MB of checksums: three pieces
const SIZE = BLOCKS * 4096;

class Recorder implements CustomTarget {
  readonly calls: string[] = [];
  readonly sums: Buffer[] = [];
  manifests: Manifest[] = [];
  failing: string | undefined;

  write(offset: number, data: Buffer) {
    this.#note(`write ${offset} ${data.length}`);
  }
  async flush() {
    this.#note('flush');
  }
  close() {
    this.#note('close');
  }
  async checksums(offset: number, data: Buffer) {
    this.#note(`checksums ${offset} ${data.length}`);
    this.sums.push(data);
  }
  manifest(manifest: Manifest) {
    this.#note(`manifest ${manifest.state}`);
    this.manifests.push(manifest);
  }
  #note(call: string) {
    this.calls.push(call);
    if (this.failing !== undefined && call.startsWith(this.failing)) throw new Error(`cannot ${call}`);
  }
}

describe('a target written in JavaScript', () => {
  const cleanup = new Cleanup();
  const context: TargetContext = { size: SIZE, blockSize: 4096, origin: fakeInfo(SIZE) };
  let temporaryDirectory: string;
  let recorder: Recorder;
  beforeEach(() => {
    temporaryDirectory = cleanup.folder('target');
    recorder = new Recorder();
  });
  after(() => cleanup.run());

  it('takes blocks and flushes as a method of its object', async () => {
    const prepared = await customTarget(recorder, { temporaryDirectory }).prepare(context);
    assert.ok('write' in prepared.native);
    await prepared.native.write(4096, Buffer.alloc(10));
    await prepared.native.flush();
    assert.deepEqual(recorder.calls, ['write 4096 10', 'flush']);
    await prepared.close();
  });

  it('gets the checksums in pieces, then the manifest, then is closed once', async () => {
    const prepared = await customTarget(recorder, { temporaryDirectory }).prepare(context);
    assert.deepEqual(readdirSync(temporaryDirectory), [], 'the gathered checksums have no name');
    const sums = Buffer.alloc(4 * BLOCKS, 'checksum');
    writeSync(prepared.checksumsFd, sums, 0, sums.length, 0);
    const manifest = await prepared.commit(draft(SIZE));
    await prepared.fail(draft(SIZE));
    await prepared.close();
    await prepared.close();
    const piece = 2 ** 20;
    assert.deepEqual(recorder.calls, [
      `checksums 0 ${piece}`,
      `checksums ${piece} ${piece}`,
      `checksums ${2 * piece} ${sums.length - 2 * piece}`,
      'manifest complete',
      'close',
    ]);
    assert.ok(Buffer.concat(recorder.sums).equals(sums));
    assert.deepEqual(recorder.manifests, [manifest]);
    assert.deepEqual(manifest.image, { kind: 'custom' });
    assert.equal(prepared.checksumsFd, -1, 'the gathered checksums are closed');
  });

  it('gets a manifest that says broken when the backup failed', async () => {
    const prepared = await customTarget(recorder, { temporaryDirectory }).prepare(context);
    await prepared.fail(draft(SIZE));
    await prepared.close();
    assert.deepEqual(recorder.calls, ['manifest broken', 'close']);
  });

  it('may do without checksums and manifest', async () => {
    const calls: string[] = [];
    const plain = { write() {}, flush() {}, close: () => void calls.push('close') };
    const prepared = await customTarget(plain, { temporaryDirectory }).prepare(context);
    assert.equal((await prepared.commit(draft(SIZE))).state, 'complete');
    await prepared.close();
    assert.deepEqual(calls, ['close']);
  });

  it('that throws while it is committed fails the backup, with what it threw as the cause', async () => {
    for (const failing of ['checksums', 'manifest complete']) {
      recorder = new Recorder();
      recorder.failing = failing;
      const prepared = await customTarget(recorder, { temporaryDirectory }).prepare(context);
      await assert.rejects(prepared.commit(draft(SIZE)), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ERR_SNAPBAK_TARGET');
        assert.match((error.cause as Error).message, /^cannot /);
        return true;
      });
      await prepared.fail(draft(SIZE));
      assert.equal(recorder.calls.at(-1), 'manifest broken');
      await prepared.close();
    }
  });

  it('that throws when it is told of a failure, or closed, leaves nothing open', async () => {
    recorder.failing = 'manifest';
    const prepared = await customTarget(recorder, { temporaryDirectory }).prepare(context);
    await prepared.fail(draft(SIZE));
    recorder.failing = 'close';
    await assert.rejects(prepared.close(), {
      code: 'ERR_SNAPBAK_TARGET',
      message: /failed to close: cannot close/,
    });
    assert.equal(prepared.checksumsFd, -1, 'the gathered checksums are closed');
  });

  it('is refused if its checksums cannot be gathered, or could depend on the origin', async () => {
    const missing = { temporaryDirectory: join(temporaryDirectory, 'missing') };
    await assert.rejects(customTarget(recorder, missing).prepare(context), {
      code: 'ERR_SNAPBAK_TARGET',
      message: /temporary file .*ENOENT/,
    });
    const host = fakeHost({
      mounts: { '/': { device: '43:0' } },
      devices: { '43:0': { name: 'nbd0', size: SIZE } },
    });
    await assert.rejects(customTarget(recorder, { temporaryDirectory }, { host }).prepare(context), {
      code: 'ERR_SNAPBAK_TARGET_REFUSED',
      message: /lies on nbd0.*; set TMPDIR/,
    });
    assert.deepEqual(recorder.calls, []);
  });
});

describe('what startBackup takes as a target', () => {
  it('is a target as it is, or an object with the methods of one', () => {
    const target = directoryTarget('/backup');
    assert.equal(targetFrom(target), target);
    assert.equal(targetFrom(new Recorder()).description, 'a target written in JavaScript');
  });

  it('is nothing else', () => {
    const wrong = [
      undefined,
      null,
      '/backup',
      {},
      { write() {}, flush() {} },
      { write() {}, flush() {}, close() {}, manifest: 1 },
      { prepare() {} },
    ];
    for (const value of wrong) {
      assert.throws(() => targetFrom(value as never), {
        name: 'TypeError',
        message: /target must be made by directoryTarget/,
      });
    }
    assert.throws(() => customTarget({} as CustomTarget), {
      name: 'TypeError',
      message: /write, flush and close/,
    });
  });
});
