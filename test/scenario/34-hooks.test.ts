// A hook brings an application to rest for the start instant: what it wrote
// before is in the backup, what it writes afterwards is not, and whatever goes
// wrong, it is let go.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { directoryTarget, openEmbedded, startBackup as startLibraryBackup } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit } from '../helpers/cli.js';
import { makeImage } from '../helpers/images.js';
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
