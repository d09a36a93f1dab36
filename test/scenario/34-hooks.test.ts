// A hook brings an application to rest for the start instant: what it wrote
// before is in the backup, what it writes afterwards is not, and whatever goes
// wrong, it is let go.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { directoryTarget, openEmbedded, startBackup as startLibraryBackup } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit } from '../helpers/cli.js';
import { makeImage } from '../helpers/images.js';
import { nbdkitDevice } from '../helpers/nbdkit-device.js';
import { until } from '../helpers/programs.js';
import {
  restored,
  type ServedImage,
  saysComplete,
  serveImage,
  startBackup,
} from '../helpers/served-image.js';

const MiB = 1 << 20;
const SIZE = 16 * MiB;

/** The first byte at 1 MiB says which hook wrote there last. */
async function stampOf(path: string): Promise<number> {
  const file = await open(path, 'r');
  try {
    return (await file.read(Buffer.alloc(1), 0, 1, MiB)).buffer[0]!;
  } finally {
    await file.close();
  }
}

describe('hooks around the start instant', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  /** A hook that writes down how it was called, then does this. */
  async function hookProgram(folder: string, script: string): Promise<{ program: string; log: string }> {
    const [program, log] = [join(folder, 'hook'), join(folder, 'hook.log')];
    await writeFile(program, `#!/bin/sh\necho "$1:$SNAPBAK_STARTED" >> ${log}\n${script}\n`);
    await chmod(program, 0o700);
    return { program, log };
  }

  const calls = async (log: string) => (await readFile(log, 'utf8').catch(() => '')).trim().split('\n');

  describe('with the user driver', () => {
    let served: ServedImage;
    let directory: string;
    beforeEach(async () => {
      served = await serveImage(cleanup, { size: SIZE });
      directory = join(served.folder, 'backup');
    });

    it('has in it what the application wrote before the start, and nothing of what came after', async () => {
      const write = (byte: string) => `qemu-io -f raw -c "write -P ${byte} 1M 64k" "${served.uri}"`;
      const script = `case $1 in before-freeze) ${write('0xaa')} ;; after-thaw) ${write('0xbb')} ;; esac`;
      const { program, log } = await hookProgram(served.folder, script);
      const backup = startBackup(cleanup, served.origin, directory, '--hook', program);
      const { events } = await expectExit(0, backup.finished);
      assert.deepEqual(await calls(log), ['before-freeze:', 'after-thaw:1']);
      assert.equal(await stampOf(await restored(directory)), 0xaa);
      assert.equal(await stampOf(served.image), 0xbb);
      assert.equal(typeof events.find(({ event }) => event === 'started')?.freezeMs, 'number');
      const stats = events.at(-1)?.stats as { armMs: number; freezeMs: number };
      assert.ok(stats.armMs > 0);
      assert.equal(stats.freezeMs, 0, 'the user driver freezes nothing');
    });

    it('is not started when the hook fails: the application is let go, nothing is left behind', async () => {
      const script = 'test $1 = after-thaw || { echo "no database here" >&2; exit 7; }';
      const { program, log } = await hookProgram(served.folder, script);
      const backup = startBackup(cleanup, served.origin, directory, '--hook', program);
      const { events, stderr } = await expectExit(1, backup.finished);
      assert.equal(events.at(-1)?.code, 'ERR_SNAPBAK_HOOK');
      assert.match(String(events.at(-1)?.message), /exit status 7: no database here/);
      assert.match(stderr, /hook: no database here/);
      assert.deepEqual(await calls(log), ['before-freeze:', 'after-thaw:0']);
      assert.equal(await saysComplete(directory), false);
      await expectExit(0, startBackup(cleanup, served.origin, directory).finished);
    });

    it('is not started when the hook takes too long: it is ended, and the application let go', async () => {
      const { program, log } = await hookProgram(served.folder, 'test $1 = after-thaw || sleep 600');
      const begin = performance.now();
      const hook = ['--hook', program, '--hook-timeout', '300ms'];
      const { events } = await expectExit(
        1,
        startBackup(cleanup, served.origin, directory, ...hook).finished,
      );
      assert.ok(performance.now() - begin < 60_000);
      assert.match(String(events.at(-1)?.message), /did not end within 300 ms/);
      assert.deepEqual(await calls(log), ['before-freeze:', 'after-thaw:0']);
    });

    it('lets the application go when it is stopped by Ctrl-C meanwhile', async () => {
      const { program, log } = await hookProgram(served.folder, 'test $1 = after-thaw || sleep 600');
      const backup = startBackup(cleanup, served.origin, directory, '--hook', program);
      await until('the hook runs', async () => (await calls(log)).includes('before-freeze:'));
      backup.child.kill('SIGINT');
      const { events } = await expectExit(3, backup.finished);
      assert.equal(events.at(-1)?.code, 'ERR_SNAPBAK_ABORTED');
      assert.deepEqual(await calls(log), ['before-freeze:', 'after-thaw:0']);
    });

    it('is complete though after-thaw failed, and says that it did', async () => {
      const { program } = await hookProgram(served.folder, 'test $1 = before-freeze || exit 9');
      const backup = startBackup(cleanup, served.origin, directory, '--hook', program);
      const { events } = await expectExit(0, backup.finished);
      const told = events.find(({ event }) => event === 'hook');
      assert.match(String(told?.message), /after-thaw ended with exit status 9/);
      assert.equal(events.at(-1)?.state, 'complete');
      assert.equal(await saysComplete(directory), true);
    });
  });

  describe('with a device that is slow to flush', () => {
    /** A device that tells of each flush, and ends none while it is slow. */
    async function flushedDevice() {
      const folder = cleanup.folder('flushed');
      const [image, told, slow] = ['disk.img', 'flushed', 'slow'].map((name) => join(folder, name));
      await makeImage(image!, SIZE);
      const path = await nbdkitDevice(cleanup, folder, [
        'eval',
        `get_size=stat -c %s ${image}`,
        `pread=dd if=${image} iflag=skip_bytes,count_bytes,fullblock bs=1M skip=$4 count=$3 status=none`,
        `pwrite=dd of=${image} oflag=seek_bytes iflag=fullblock bs=1M seek=$4 conv=notrunc status=none`,
        'can_write=exit 0',
        'can_flush=exit 0',
        `flush=echo flush >>${told}; while test -e ${slow}; do sleep 0.05; done`,
      ]);
      const flushes = async () =>
        (await readFile(told!, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '').length;
      return { path, slow: slow!, flushes, directory: join(folder, 'backup') };
    }

    it('flushes it before the application is brought to rest, and what the hook wrote behind that', async () => {
      const { path, flushes, directory } = await flushedDevice();
      await using origin = await openEmbedded(path);
      await origin.write(MiB, Buffer.alloc(65_536, 0xaa));
      const before = await flushes();
      let atRest = 0;
      const backup = await startLibraryBackup({
        origin,
        target: directoryTarget(directory),
        beforeFreeze: async () => {
          atRest = await flushes();
        },
      });
      const started = await flushes();
      await backup.abort();
      assert.ok(atRest > before, 'nothing was flushed before the hook');
      assert.ok(started > atRest, 'nothing was flushed behind the hook');
    });

    it('does not wait for it once the backup is aborted, and calls no hook', async () => {
      const { path, slow, flushes, directory } = await flushedDevice();
      await using origin = await openEmbedded(path);
      const before = await flushes();
      await writeFile(slow, '');
      cleanup.defer('flush at once', () => rm(slow, { force: true }));
      const abort = new AbortController();
      const starting = startLibraryBackup({
        origin,
        target: directoryTarget(directory),
        beforeFreeze: () => assert.fail('the hook was called'),
        signal: abort.signal,
      });
      starting.catch(() => {}); // looked at below
      await until('it is flushed', async () => (await flushes()) > before);
      abort.abort('changed my mind');
      const late = sleep(20_000, 'late', { ref: false });
      const ended = await Promise.race([starting.then(String, (error: unknown) => error), late]);
      await rm(slow);
      assert.equal((ended as { code?: string }).code, 'ERR_SNAPBAK_ABORTED', String(ended));
    });
  });

  it('works with the embedded driver, whose application is this program', async () => {
    const folder = cleanup.folder('scenario');
    const image = join(folder, 'disk.img');
    await makeImage(image, SIZE);
    const { program, log } = await hookProgram(folder, '');
    await using origin = await openEmbedded(image);
    const directory = join(folder, 'backup');
    const hook = async (name: string, byte: number, signal: AbortSignal) => {
      await promisify(execFile)(program, [name], { signal });
      await origin.write(MiB, Buffer.alloc(65_536, byte));
    };
    const backup = await startLibraryBackup({
      origin,
      target: directoryTarget(directory),
      beforeFreeze: ({ signal }) => hook('before-freeze', 0xaa, signal),
      afterThaw: ({ signal }) => hook('after-thaw', 0xbb, signal),
    });
    assert.equal((await backup.finished).state, 'complete');
    assert.deepEqual(await calls(log), ['before-freeze:', 'after-thaw:']);
    assert.equal(await stampOf(join(directory, 'data.img')), 0xaa);
    assert.equal(await stampOf(image), 0xbb);
  });
});
