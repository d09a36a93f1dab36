/** A finished backup shown over NBD: what it holds, what clients may do to it, and what is refused. */
import { strict as assert } from 'node:assert';
import { existsSync, lstatSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SnapbakError, serveBackup } from '../../lib/index.js';
import { makeBackup } from '../helpers/backup-folder.js';
import { Cleanup } from '../helpers/cleanup.js';
import { CliRun, expectExit, snapbakExits } from '../helpers/cli.js';
import { stamped } from '../helpers/images.js';
import { must, needPrograms, run } from '../helpers/programs.js';

const KiB = 1024;
const SIZE = 3 * 1024 * KiB + 512; // nbdcopy of nbdkit's file plugin wants whole sectors

describe('a backup that is shown over NBD', function () {
  this.timeout(120_000);
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());
  before(() => needPrograms('nbdkit', 'nbdinfo', 'nbdcopy', 'qemu-io'));

  async function madeBackup(changes: Parameters<typeof makeBackup>[2] = {}) {
    const folder = cleanup.folder('mount-backup');
    const backup = join(folder, 'backup');
    const image = stamped(0, SIZE, 7);
    const manifest = await makeBackup(backup, image, changes);
    return { folder, backup, image, manifest, socket: join(folder, 'nbd.sock') };
  }

  async function served(options: Parameters<typeof serveBackup>[0]) {
    const server = await serveBackup(options);
    cleanup.defer('stop the server', () => server.stop());
    return server;
  }

  it('is the image, read-only, behind a socket for its owner', async () => {
    const { folder, backup, image, socket } = await madeBackup();
    const server = await served({ backup, socket });
    assert.equal(server.size, SIZE);
    assert.equal(lstatSync(socket).mode & 0o7777, 0o600);
    const copy = join(folder, 'copy');
    await must('nbdcopy', [server.uri, copy]);
    assert.ok(readFileSync(copy).equals(image));
    assert.match(await must('nbdinfo', [server.uri]), /is_read_only: true/);
    assert.notEqual((await run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', server.uri])).code, 0);
    await server.stop();
    await server.stop();
    assert.deepEqual(await server.exited.then(({ asked, messages }) => [asked, messages]), [true, []]);
    assert.equal(existsSync(socket), false);
  });

  it('takes writes into an overlay that goes with the server', async () => {
    const { backup, image, socket } = await madeBackup();
    for (let round = 0; round < 2; round += 1) {
      const server = await served({ backup, socket, overlay: true });
      const check = `read -P ${image[5000]} 5000 1`;
      const change = ['write -P 5 4096 65536', 'flush', 'read -P 5 4096 65536', 'write -P 6 0 512'];
      const args = [check, ...change].flatMap((command) => ['-c', command]);
      assert.doesNotMatch(await must('qemu-io', ['-f', 'raw', ...args, server.uri]), /failed|error/i);
      await server.stop();
    }
    assert.ok(readFileSync(join(backup, 'data.img')).equals(image));
  });

  it('is the file that was checked, whatever its name means later', async () => {
    const { folder, backup, image, socket } = await madeBackup();
    const server = await served({ backup, socket });
    const secret = join(folder, 'secret');
    writeFileSync(secret, Buffer.alloc(SIZE, 'secret'));
    renameSync(join(backup, 'data.img'), join(backup, 'moved'));
    symlinkSync(secret, join(backup, 'data.img'));
    const copy = join(folder, 'copy');
    await must('nbdcopy', [server.uri, copy]);
    assert.ok(readFileSync(copy).equals(image));
    // and nothing but it can be asked for
    const other = await run('nbdinfo', [server.uri.replace(':///', ':///4')]);
    assert.notEqual(other.code, 0);
  });

  it('runs from the command line until it is told to stop, and may be started again', async () => {
    const { backup, socket } = await madeBackup({
      state: 'complete-with-invalid-blocks',
      invalidBlocks: [[4096, 8192]],
    });
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const program = new CliRun(['mount-backup', backup, socket, '--overlay', '--json']);
      cleanup.defer('end the program', () => program.kill());
      const started = await program.event('started');
      assert.equal(started.size, SIZE);
      assert.equal(started.overlay, true);
      assert.equal(started.invalidBlocks, 2);
      await must('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 512', String(started.uri)]);
      program.child.kill(signal);
      const { events } = await expectExit(0, program.finished);
      assert.equal(events.at(-1)?.event, 'finished');
      assert.equal(existsSync(socket), false);
    }
  });

  it('ends with exit status 1 when nbdkit is killed', async () => {
    const { backup, socket } = await madeBackup();
    const program = new CliRun(['mount-backup', backup, socket, '--json']);
    cleanup.defer('end the program', () => program.kill());
    process.kill(Number((await program.event('started')).pid), 'SIGKILL');
    const { events } = await expectExit(1, program.finished);
    assert.match(String(events.at(-1)?.message), /nbdkit ended \(SIGKILL\)/);
  });

  describe('is refused', () => {
    async function refused(options: Parameters<typeof serveBackup>[0], code: string, words: RegExp) {
      await assert.rejects(serveBackup(options), (error: unknown) => {
        assert.ok(SnapbakError.is(error), String(error));
        assert.deepEqual([error.code, words.test(error.message)], [code, true], error.message);
        return true;
      });
    }

    it('when it broke, when its image is a link, and when it has another size', async () => {
      const broken = await madeBackup({ state: 'broken' });
      await refused({ backup: broken.backup, socket: broken.socket }, 'ERR_SNAPBAK_INCOMPLETE', /was broken/);
      await snapbakExits(1, 'mount-backup', broken.backup, broken.socket);

      const { folder, backup, socket } = await madeBackup();
      renameSync(join(backup, 'data.img'), join(folder, 'elsewhere'));
      symlinkSync(join(folder, 'elsewhere'), join(backup, 'data.img'));
      await refused({ backup, socket }, 'ERR_SNAPBAK_MANIFEST', /symbolic link/);
      rmSync(join(backup, 'data.img'));
      writeFileSync(join(backup, 'data.img'), 'short');
      await refused({ backup, socket }, 'ERR_SNAPBAK_CORRUPT', /has 5 bytes/);
      assert.equal(existsSync(socket), false);
    });

    it('without nbdkit, by an aborted signal, and for arguments that are none', async () => {
      const { folder, backup, socket } = await madeBackup();
      const nbdkit = () => join(folder, 'nbdkit');
      await assert.rejects(serveBackup({ backup, socket }, { nbdkit }), /ENOENT/);
      await refused({ backup, socket, signal: AbortSignal.abort() }, 'ERR_SNAPBAK_ABORTED', /aborted/);
      await assert.rejects(serveBackup({ backup, socket: `/${'x'.repeat(107)}` }), /at most 107 bytes/);
      await assert.rejects(serveBackup({ backup, socket, overlay: 1 as never }), /overlay must be a boolean/);
      await assert.rejects(serveBackup({ backup: '', socket }), RangeError);
    });
  });
});
