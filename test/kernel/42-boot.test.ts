// QEMU boots a disk that is not there yet, or not any more: from the start instant of a backup that runs,
// whose origin is nothing but garbage meanwhile, from the clone that such a backup makes, and from a restore
// that brings what the guest asks for.
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { directoryTarget, openOrigin, startBackup } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { CliRun, expectExit } from '../helpers/cli.js';
import { expectClean } from '../helpers/fs-story.js';
import { HELD_RESTORE } from '../helpers/held-restore.js';
import { must, needPrograms } from '../helpers/programs.js';
import { qemuIo, serveImage } from '../helpers/served-image.js';
import { bootDisk, MARK, MARK_TEXT, makeBootableDisk, WHOLE } from './helpers/boot-disk.js';

const MIB = 2 ** 20;
const SIZE = 40 * MIB;

describe('a guest of QEMU', function () {
  this.timeout(600_000);
  const cleanup = new Cleanup();
  let folder: string;
  /** The disk as it was at the start instant. */
  let instant: string;
  let backup: string;
  before(async () => {
    needPrograms('qemu-system-x86_64', 'qemu-img', 'qemu-io', 'nbdkit', 'mkfs.ext4', 'debugfs');
    folder = cleanup.folder('boot');
    instant = join(folder, 'instant.img');
    backup = join(folder, 'backup');
    await makeBootableDisk(instant, SIZE, folder);
  });
  after(() => cleanup.run());

  const same = (...images: string[]) => must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', ...images]);

  /** The system is on that disk, and has left its word. */
  async function expectSystem(disk: string): Promise<void> {
    await expectClean('e2fsck', ['-fn', disk]);
    assert.equal(await must('debugfs', ['-R', `cat ${MARK}`, disk]), `${MARK_TEXT}\n`);
  }

  it('boots from the start instant while the backup runs and its origin has been overwritten', async () => {
    const image = join(folder, 'disk.img');
    copyFileSync(instant, image);
    const served = await serveImage(cleanup, { image });
    await using origin = await openOrigin(served.origin);
    const running = await startBackup({
      origin,
      target: directoryTarget(backup),
      blocks: 'all',
      rate: MIB,
      export: join(folder, 'instant.sock'),
    });
    running.pause();
    // but for the end: with all captured, the backup would have finished
    await qemuIo(
      served.uri,
      `write -P 0x5a 0 ${SIZE / 2}`,
      `write -P 0xa5 ${SIZE / 2} ${SIZE / 2 - MIB}`,
      'flush',
    );
    const said = await bootDisk(running.exportUri!, { writable: false });
    assert.ok(said.includes(WHOLE), said);
    await same(running.exportUri!, instant);
    assert.equal(running.state, 'paused');
    running.setRate(undefined);
    running.resume();
    assert.equal((await running.finished).state, 'complete');
    await same(join(backup, 'data.img'), instant);
  });

  it('boots from the clone of a backup that has hardly begun, and what it writes stays there', async () => {
    const image = join(folder, 'disk2.img');
    const to = join(folder, 'clone.img');
    const directory = join(folder, 'backup2');
    copyFileSync(instant, image);
    const served = await serveImage(cleanup, { image });
    await using origin = await openOrigin(served.origin);
    const running = await startBackup({
      origin,
      target: directoryTarget(directory),
      blocks: 'all',
      rate: MIB / 4,
      clone: { to, socket: join(folder, 'clone.sock') },
    });
    const clone = running.clone!;
    const { doneBytes, totalBytes } = clone.stats();
    assert.ok(totalBytes - doneBytes > 12 * MIB, `${doneBytes} of ${totalBytes} bytes are there already`);
    const [said] = await Promise.all([
      bootDisk(clone.uri!, { writable: true }),
      qemuIo(served.uri, `write -P 0x5a 0 ${SIZE / 2}`, 'flush'),
    ]);
    assert.ok(said.includes(WHOLE), said);
    assert.ok(clone.stats().demands > 0, 'the guest never had to wait for a block');
    running.setRate(undefined);
    assert.equal((await running.finished).state, 'complete');
    await same(join(directory, 'data.img'), instant);
    await clone.close();
    await expectSystem(to);
  });

  it('boots from a restore that brings only what it asks for, and what it writes stays', async () => {
    const disk = join(folder, 'restored.img');
    const socket = join(folder, 'restored.sock');
    const held = new CliRun([backup, disk, socket], { script: HELD_RESTORE });
    cleanup.defer('end the restore', () => held.kill());
    const { uri } = await held.event('started');
    const said = await bootDisk(String(uri), { writable: true });
    assert.ok(said.includes(WHOLE), said);
    await held.kill();

    const rest = new CliRun(['restore', backup, disk, '--export', socket, '--resume', '--json']);
    cleanup.defer('end the rest of the restore', () => rest.kill());
    await rest.event('restored');
    rest.child.kill('SIGTERM');
    await expectExit(0, rest.finished);
    await expectSystem(disk);
    const again = await bootDisk(disk, { writable: false });
    assert.ok(again.includes(WHOLE), again);
  });
});
