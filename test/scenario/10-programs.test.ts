// Programs that know nothing of Snapbak write through the export while a backup
// runs: the backup is the start instant, and the export has every write.
import assert from 'node:assert/strict';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliRun, expectExit } from '../helpers/cli.js';
import { expectSame } from '../helpers/images.js';
import { must, needPrograms } from '../helpers/programs.js';
import { qemuIo, restored, type ServedImage, serveImage, startBackup } from '../helpers/served-image.js';

const MiB = 1 << 20;

/** What the `finished` event tells of the writers. */
async function finishedStats(backup: CliRun) {
  const event = (await backup.event('finished')) as unknown as {
    state: string;
    stats: { writers: { captured: number; held: number } };
  };
  assert.equal(event.state, 'complete');
  return event.stats;
}

async function endsWell(backup: CliRun): Promise<void> {
  await expectExit(0, backup.finished);
}

describe('real programs write through the export during a backup', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let reference: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: 96 * MiB });
    reference = join(served.folder, 'start.img');
    await copyFile(served.image, reference);
  });
  afterEach(() => cleanup.run());

  it('qemu-io: writes, zeroes and discards are not in the backup, and are all on the disk', async () => {
    const directory = join(served.folder, 'backup');
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '16M');
    await backup.event('started');
    // from the end backwards: the sweep is not there yet, so these must be captured
    const writes = [
      'write -P 0xa1 95M 512k',
      'write -P 0xa2 90000k 4k',
      'write -P 0xa3 80000k 512',
      'write -z 70M 1M',
      'write -z -u 60M 1M',
      'writev -P 0xa4 50M 64k 64k 128k',
      'aio_write -P 0xa5 48M 300k',
      'aio_write -P 0xa6 47M 300k',
      'aio_flush',
      'write -f -P 0xa7 40M 128k',
      'flush',
    ];
    const checks = [
      'read -P 0xa1 95M 512k',
      'read -P 0xa2 90000k 4k',
      'read -P 0xa3 80000k 512',
      'read -P 0 70M 1M',
      'read -P 0 60M 1M',
      'read -P 0xa4 50M 256k',
      'read -P 0xa5 48M 300k',
      'read -P 0xa6 47M 300k',
      'read -P 0xa7 40M 128k',
    ];
    await qemuIo(served.uri, ...writes, 'discard 30M 3M', ...checks);
    const stats = await finishedStats(backup);
    await endsWell(backup);
    assert.ok(stats.writers.captured >= 30, `only ${stats.writers.captured} blocks were captured`);
    await expectSame(await restored(directory), reference);
    await qemuIo(served.uri, ...checks);
  });

  it('fio: a verifying random load runs through the whole backup', async () => {
    needPrograms('fio');
    const directory = join(served.folder, 'backup');
    const backup = startBackup(
      cleanup,
      served.origin,
      directory,
      '--rate',
      '12M',
      '--container',
      'memory:4M',
    );
    await backup.event('started');
    const load = [
      '--name=load',
      '--ioengine=nbd',
      `--uri=${served.uri}`,
      '--rw=randwrite',
      '--bsrange=512-128k',
      '--blockalign=512',
      '--iodepth=16',
      '--size=96m',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--norandommap=0',
      '--randrepeat=1',
      '--allrandrepeat=1',
    ];
    await must('fio', [...load, '--io_size=64m']);
    const stats = await finishedStats(backup);
    await endsWell(backup);
    assert.ok(stats.writers.captured > 0, 'nothing was captured: the load did not meet the backup');
    await expectSame(await restored(directory), reference);
    // what fio wrote is there after the backup as well
    await must('fio', [...load, '--io_size=64m', '--verify_only']);
  });

  it('fio: eight writers over few slots are slowed, never failed', async () => {
    needPrograms('fio');
    const directory = join(served.folder, 'backup');
    const backup = startBackup(
      cleanup,
      served.origin,
      directory,
      '--rate',
      '24M',
      '--container',
      'memory:512K',
    );
    await backup.event('started');
    const output = await must('fio', [
      '--name=load',
      '--ioengine=nbd',
      `--uri=${served.uri}`,
      '--rw=randwrite',
      '--bs=4k',
      '--iodepth=8',
      '--numjobs=8',
      '--size=12m',
      '--offset_increment=12m',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--io_size=4m',
      '--group_reporting',
      '--output-format=json',
    ]);
    const report = JSON.parse(output.slice(output.indexOf('{'))) as { jobs: { error: number }[] };
    assert.equal(report.jobs[0]?.error, 0);
    const stats = await finishedStats(backup);
    await endsWell(backup);
    assert.ok(stats.writers.held > 0, 'no write was held: the slots were never full');
    await expectSame(await restored(directory), reference);
  });
});
