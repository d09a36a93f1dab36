/**
 * A block device that fails when it is told to: a loop device on nbdfuse on
 * nbdkit with its error filter. (There is no device-mapper in many containers.)
 */
import { existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.js';
import { ended, must, needMounts, needPrograms, run, start, until } from './programs.js';

export interface FaultyDevice {
  /** The loop device. */
  path: string;
  /** The file that holds its content. */
  backing: string;
  /** From now on, reads or writes end with EIO. */
  fail(what: 'read' | 'write'): void;
  /** Reads and writes work again. */
  heal(): void;
}

/** A device of `size` bytes that lives until the cleanup runs. */
export async function faultyDevice(cleanup: Cleanup, size: number, backing?: string): Promise<FaultyDevice> {
  needMounts();
  needPrograms('nbdkit', 'nbdfuse', 'fusermount3', 'losetup');
  const folder = cleanup.folder('faulty');
  const file = backing ?? join(folder, 'content');
  if (backing === undefined) {
    writeFileSync(file, '');
    truncateSync(file, size);
  }
  const socket = join(folder, 'nbd.sock');
  const trigger = { read: join(folder, 'fail-reads'), write: join(folder, 'fail-writes') };
  const filter = ['--filter=error', 'file', file, 'error-pread=EIO', 'error-pread-rate=100%'];
  filter.push(`error-pread-file=${trigger.read}`, 'error-pwrite=EIO', 'error-pwrite-rate=100%');
  filter.push(`error-pwrite-file=${trigger.write}`, 'error-zero=EIO', 'error-zero-rate=100%');
  filter.push(`error-zero-file=${trigger.write}`);
  const nbdkit = start('nbdkit', ['-f', '-U', socket, ...filter]);
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
  const heal = () => {
    rmSync(trigger.read, { force: true });
    rmSync(trigger.write, { force: true });
  };
  // what is unmounted and detached at the end writes once more
  cleanup.defer('heal the device', heal);
  return { path, backing: file, heal, fail: (what) => writeFileSync(trigger[what], '') };
}

/** A loop device over a new file of `size` bytes. */
export async function loopDevice(cleanup: Cleanup, size: number): Promise<string> {
  needMounts();
  needPrograms('losetup');
  const file = join(cleanup.folder('loop'), 'content');
  writeFileSync(file, '');
  truncateSync(file, size);
  const path = (await must('losetup', ['--show', '-f', file])).trim();
  cleanup.defer(`detach ${path}`, () => must('losetup', ['-d', path]));
  return path;
}

/** A tmpfs of `size` bytes, mounted until the cleanup runs. */
export async function smallTmpfs(cleanup: Cleanup, size: number): Promise<string> {
  needMounts();
  const folder = join(cleanup.folder('tmpfs'), 'mnt');
  mkdirSync(folder);
  await must('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]);
  cleanup.defer(`unmount ${folder}`, () => must('umount', [folder]));
  return folder;
}
