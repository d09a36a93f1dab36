/**
 * A block device that some nbdkit serves, behind nbdfuse and a loop device.
 * (There is no device-mapper in many containers.)
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.js';
import { ended, must, needMounts, needPrograms, run, start, until } from './programs.js';

/** A loop device on an nbdkit with this filter, plugin and parameters; it lives until the cleanup runs. */
export async function nbdkitDevice(cleanup: Cleanup, folder: string, args: string[]): Promise<string> {
  needMounts();
  needPrograms('nbdkit', 'nbdfuse', 'fusermount3', 'losetup');
  const socket = join(folder, 'nbd.sock');
  const nbdkit = start('nbdkit', ['-f', '-U', socket, ...args]);
  const nbdkitEnded = ended(nbdkit);
  cleanup.defer('end nbdkit', async () => {
    nbdkit.kill('SIGTERM');
    await nbdkitEnded;
  });
  await until('nbdkit listens', () => {
    if (nbdkit.exitCode !== null) throw new Error('nbdkit ended');
    return existsSync(socket);
  });
  const fuse = join(folder, 'fuse');
  mkdirSync(fuse);
  const nbdfuse = start('nbdfuse', [fuse, `nbd+unix:///?socket=${socket}`]);
  const nbdfuseEnded = ended(nbdfuse);
  cleanup.defer('end nbdfuse', async () => {
    await until('nbdfuse unmounted', async () => (await run('fusermount3', ['-u', fuse])).code === 0).catch(
      () => run('umount', ['-l', fuse]),
    );
    const forced = setTimeout(() => nbdfuse.kill('SIGKILL'), 10_000);
    await nbdfuseEnded;
    clearTimeout(forced);
  });
  await until('nbdfuse shows the device', () => {
    if (nbdfuse.exitCode !== null) throw new Error('nbdfuse ended');
    return existsSync(join(fuse, 'nbd'));
  });
  // without --direct-io the page cache would answer reads that the server fails
  const path = (await must('losetup', ['--show', '-f', '--direct-io=on', join(fuse, 'nbd')])).trim();
  cleanup.defer(`detach ${path}`, () => must('losetup', ['-d', path]));
  return path;
}

/** A device with the content of a file that moves so many bytes a second, whoever asks. */
export async function slowDevice(
  cleanup: Cleanup,
  folder: string,
  backing: string,
  bytesPerSecond: number,
): Promise<string> {
  // one request after the other, as on a disk of one arm; the filter counts bits
  return nbdkitDevice(cleanup, folder, [
    '--filter=noparallel',
    '--filter=rate',
    'file',
    backing,
    `rate=${bytesPerSecond * 8}`,
    'burstiness=0.05',
  ]);
}
