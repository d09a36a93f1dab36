/** A restore that is used while it runs: over NBD, by the library and the program, killed and continued. */
import { strict as assert } from 'node:assert';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { restoreOnDemand, SnapbakError } from '../../lib/index.js';
import { writeManifest } from '../../lib/manifest.js';
import { makeBackup, manifestOf } from '../helpers/backup-folder.js';
import { Cleanup } from '../helpers/cleanup.js';
import { CliRun, expectExit, snapbakExits } from '../helpers/cli.js';
import { crc32c } from '../helpers/fake-binding.js';
import { HELD_RESTORE, withoutBackground } from '../helpers/held-restore.js';
import { seeded, stamped } from '../helpers/images.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { must, needPrograms, run } from '../helpers/programs.js';

const MiB = 1 << 20;
const BLOCK = 4096;

describe('a restore that is used while it runs', function () {
  this.timeout(180_000);
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());
  before(() => needPrograms('nbdkit', 'nbdinfo', 'nbdcopy', 'qemu-io'));

  async function madeBackup(size = 8 * MiB + 512) {
    const folder = cleanup.folder('on-demand');
    const backup = join(folder, 'backup');
    const image = stamped(0, size, 7);
    image.fill(0, 2 * MiB, 3 * MiB);
    await makeBackup(backup, image, {}, BLOCK);
    return { folder, backup, image, to: join(folder, 'disk.img'), socket: join(folder, 'nbd.sock') };
  }

  async function restoring(...options: Parameters<typeof restoreOnDemand>) {
    const disk = await restoreOnDemand(...options);
    cleanup.defer('stop the restore', () => disk.stop());
    return disk;
  }

  async function qemuIo(uri: string, ...commands: string[]) {
    const args = commands.flatMap((command) => ['-c', command]);
    assert.doesNotMatch(await must('qemu-io', ['-f', 'raw', ...args, uri]), /failed|error/i);
  }

  it('reads as the backup, keeps what is written, and leaves a disk and no state file', async () => {
    const { backup, image, to, socket } = await madeBackup();
    const disk = await restoring({ backup, to, socket });
    assert.equal(lstatSync(socket).mode & 0o7777, 0o600);
    assert.equal(lstatSync(disk.state).mode & 0o7777, 0o600);
    assert.equal(disk.state, `${to}.restore-state`);
    await qemuIo(disk.uri, 'write -P 5 5000 70000', 'write -z 4M 100k', 'flush', 'read -P 5 5000 70000');
    image.fill(5, 5000, 75_000);
    image.fill(0, 4 * MiB, 4 * MiB + 100 * 1024);
    const { doneBytes, totalBytes, badBlocks } = await disk.restored;
    assert.deepEqual([doneBytes, totalBytes, badBlocks], [image.length, image.length, 0]);
    // the export goes on
    await qemuIo(disk.uri, 'write -f -P 6 1M 4096');
    image.fill(6, MiB, MiB + 4096);
    const copy = `${to}.copy`;
    await must('nbdcopy', [disk.uri, copy]);
    assert.ok(readFileSync(copy).equals(image));
    await disk.stop();
    await disk.stop();
    assert.ok(readFileSync(to).equals(image));
    assert.deepEqual([existsSync(disk.state), existsSync(socket)], [false, false]);
    // nothing says that this was a restore now: it is a disk that holds something
    await assert.rejects(restoreOnDemand({ backup, to, socket }), /exists and holds/);
  });

  it('goes on after kills, with every write that was acknowledged', async () => {
    const { backup, image, to, socket } = await madeBackup(24 * MiB);
    const below = seeded(31);
    const blocks = image.length / BLOCK;
    let here = 0;
    // the last one is the program itself, whose threads bring the rest meanwhile
    for (let round = 0; round < 4; round += 1) {
      const held = round < 3;
      const program = held
        ? new CliRun([backup, to, socket], { script: HELD_RESTORE })
        : new CliRun(['restore', backup, to, '--export', socket, '--json']);
      cleanup.defer('end the program', () => program.kill());
      const started = await program.event('started');
      assert.equal(started.resumed, round > 0);
      const commands: string[] = [];
      for (let i = 0; i < 12; i += 1) {
        const length = 1 + below(60_000);
        const offset = below(image.length - length);
        const byte = 1 + below(255);
        commands.push(`write -P ${byte} ${offset} ${length}`);
        image.fill(byte, offset, offset + length);
      }
      await qemuIo(String(started.uri), ...commands);
      await program.kill('SIGKILL');
      if (!held) break;
      const before = here;
      here = blocksThere(`${to}.restore-state`, blocks);
      assert.ok(before < here && here < blocks, `${before}, then ${here} of ${blocks} blocks were there`);
    }
    const program = new CliRun(['restore', backup, to, '--export', socket, '--resume', '--json']);
    cleanup.defer('end the program', () => program.kill());
    await program.event('restored');
    program.child.kill('SIGTERM');
    const { events } = await expectExit(0, program.finished);
    assert.equal(events.at(-1)?.event, 'finished');
    assert.ok(readFileSync(to).equals(image));
    assert.equal(existsSync(`${to}.restore-state`), false);
  });

  it('has the first megabyte of a terabyte in less than a second', async () => {
    const folder = cleanup.folder('terabyte');
    const backup = join(folder, 'backup');
    const size = 2 ** 40;
    const blockSize = 65_536;
    await makeBackup(backup, Buffer.alloc(0));
    const first = stamped(0, MiB, 3);
    writeFileSync(join(backup, 'data.img'), first);
    truncateSync(join(backup, 'data.img'), size);
    const sums = Buffer.alloc((4 * size) / blockSize);
    sums.fill(Buffer.from(Uint32Array.of(crc32c(Buffer.alloc(blockSize))).buffer));
    for (let block = 0; block < MiB / blockSize; block += 1) {
      sums.writeUInt32LE(crc32c(first.subarray(block * blockSize, (block + 1) * blockSize)), 4 * block);
    }
    writeFileSync(join(backup, 'checksums'), sums);
    const sha256 = createHash('sha256').update(sums).digest('hex');
    const checksums = { name: 'checksums', algorithm: 'crc32c', sha256 } as const;
    await writeManifest(backup, manifestOf(size, { checksums }, blockSize));
    const to = join(folder, 'disk.img');
    const attempt = async () => {
      const began = performance.now();
      const disk = await restoring({ backup, to, socket: join(folder, 'nbd.sock') });
      const usable = performance.now();
      const client = await NbdClient.connect(disk.socket);
      const bytes = await client.read(0, MiB);
      const read = performance.now();
      await client.close();
      assert.ok(bytes.equals(first));
      return { disk, usable: usable - began, read: read - began };
    };
    // others may take the machine for a second, but not each time
    const times: number[][] = [];
    for (;;) {
      const { disk, usable, read } = await attempt();
      times.push([usable, read].map(Math.round));
      if (read < 1000) {
        await disk.restored;
        break;
      }
      assert.ok(times.length < 3, `milliseconds until it was usable, and read: ${times.join('; ')}`);
      await disk.stop();
      for (const path of [to, disk.state]) rmSync(path, { force: true });
    }
    assert.equal(statSync(to).size, size);
    const file = await open(to);
    const { buffer } = await file.read(Buffer.alloc(MiB), 0, MiB, 0);
    await file.close();
    assert.ok(buffer.equals(first));
  });

  it('tells damaged blocks, fails reads of them, and ends with exit status 1', async () => {
    const { backup, image, to, socket } = await madeBackup();
    const at = 100 * BLOCK;
    const data = await open(join(backup, 'data.img'), 'r+');
    await data.write('damaged', at + 5);
    await data.close();
    const program = new CliRun(['restore', backup, to, '--export', socket, '--json']);
    cleanup.defer('end the program', () => program.kill());
    const uri = String((await program.event('started')).uri);
    const { offset, length } = await program.event('bad-block');
    assert.deepEqual([offset, length], [at, BLOCK]);
    assert.match((await run('qemu-io', ['-f', 'raw', '-c', `read ${at} 512`, uri])).stdout, /error/);
    await qemuIo(
      uri,
      `read -P ${image[at - 1]} ${at - 1} 1`,
      `write -P 1 ${at} ${BLOCK}`,
      `read -P 1 ${at} 512`,
    );
    program.child.kill('SIGINT');
    const { events } = await expectExit(1, program.finished);
    assert.equal(events.at(-1)?.code, 'ERR_SNAPBAK_CORRUPT');
    assert.equal(existsSync(`${to}.restore-state`), true, 'it may go on, with a sound copy of the backup');
  });

  it('ends when the checksums are not those of the manifest', async () => {
    const { backup, to, socket } = await madeBackup();
    const sums = await open(join(backup, 'checksums'), 'r+');
    await sums.write('xx', 40);
    await sums.close();
    const disk = await restoring({ backup, to, socket });
    await assert.rejects(
      disk.restored,
      (error: Error) => SnapbakError.is(error) && /SHA-256/.test(error.message),
    );
    assert.equal((await disk.exited).asked, true);
  });

  it('stopped early, says so, and can go on', async () => {
    const { backup, image, to, socket } = await madeBackup();
    const abort = new AbortController();
    const disk = await restoring({ backup, to, socket, signal: abort.signal }, { native: withoutBackground });
    await qemuIo(disk.uri, 'write -P 5 1M 4096');
    abort.abort();
    assert.equal((await disk.exited).asked, true);
    await disk.stop();
    await assert.rejects(disk.restored, { code: 'ERR_SNAPBAK_ABORTED' });
    assert.equal(existsSync(disk.state), true);
    const next = await restoring({ backup, to, socket, resume: true });
    await next.restored;
    await next.stop();
    assert.ok(readFileSync(to).equals(image.fill(5, MiB, MiB + BLOCK)));
  });

  it('begun twice over one file at once, is refused once, and the other is not disturbed', async () => {
    const { backup, image, to, socket } = await madeBackup();
    writeFileSync(to, Buffer.alloc(image.length, 9));
    const begun = await Promise.allSettled(
      [socket, `${socket}2`].map((own) => restoring({ backup, to, socket: own, force: true })),
    );
    const refused = begun.filter((one) => one.status === 'rejected');
    assert.equal(refused.length, 1);
    assert.match(String(refused[0]!.reason), /disk\.img is in use/);
    const disk = begun.find((one) => one.status === 'fulfilled')!.value;
    await disk.restored;
    await disk.stop();
    assert.ok(readFileSync(to).equals(image));
  });

  it('is refused for another backup, another destination, and options that do not fit', async () => {
    const one = await madeBackup();
    const two = await madeBackup();
    const { backup, to, socket } = one;
    const program = new CliRun(['restore', backup, to, '--export', socket, '--json']);
    await program.event('started');
    await program.kill('SIGKILL');
    const refused = (options: object, words: RegExp) =>
      assert.rejects(restoreOnDemand({ backup, to, socket, ...options }), (error: unknown) => {
        assert.ok(SnapbakError.is(error), String(error));
        assert.deepEqual(
          [error.code, words.test(error.message)],
          ['ERR_SNAPBAK_RESTORE', true],
          error.message,
        );
        return true;
      });
    await refused({ backup: two.backup }, /restore of another backup/);
    const state = `${to}.restore-state`;
    await refused({ to: two.to, state }, /is not what .* was made for/);
    writeFileSync(two.to, Buffer.alloc(one.image.length));
    await refused({ to: two.to, state, force: true }, /is not what .* was made for/);
    await refused({ state: join(one.folder, 'none'), resume: true }, /no state file/);
    writeFileSync(join(one.folder, 'rubbish'), 'rubbish');
    await refused({ state: join(one.folder, 'rubbish') }, /no state file of a restore/);
    truncateSync(to, 4096);
    await refused({}, /has 4096 bytes now/);
    const usage = await snapbakExits(2, 'restore', backup, to, '--resume');
    assert.match(usage.stderr, /--export/);
  });
});

/** How many blocks are there, by either bitmap of a state file (native/copy/restore_state.h). */
function blocksThere(path: string, blocks: number): number {
  const file = readFileSync(path);
  const bytes = Math.ceil(blocks / 8 / 4096) * 4096;
  const [durable, ofThisBoot] = [8192, 8192 + bytes].map((at) => file.subarray(at, at + bytes));
  let there = 0;
  for (const [i, byte] of durable!.entries()) {
    for (let bits = byte | ofThisBoot![i]!; bits !== 0; bits &= bits - 1) there += 1;
  }
  return there;
}
