/** Block devices that fail when they are told to, or are too small: by nbdkit's error filter, loop, tmpfs. */
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.js';
import { nbdkitDevice } from './nbdkit-device.js';
import { must, needMounts, needPrograms } from './programs.js';

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
  const folder = cleanup.folder('faulty');
  const file = backing ?? join(folder, 'content');
  if (backing === undefined) {
    writeFileSync(file, '');
    truncateSync(file, size);
  }
  const trigger = { read: join(folder, 'fail-reads'), write: join(folder, 'fail-writes') };
  const filter = ['--filter=error', 'file', file, 'error-pread=EIO', 'error-pread-rate=100%'];
  filter.push(`error-pread-file=${trigger.read}`, 'error-pwrite=EIO', 'error-pwrite-rate=100%');
  filter.push(`error-pwrite-file=${trigger.write}`, 'error-zero=EIO', 'error-zero-rate=100%');
  filter.push(`error-zero-file=${trigger.write}`);
  const path = await nbdkitDevice(cleanup, folder, filter);
  const heal = () => {
    rmSync(trigger.read, { force: true });
    rmSync(trigger.write, { force: true });
  };
  // what is unmounted and detached at the end writes once more
  cleanup.defer('heal the device', heal);
  return { path, backing: file, heal, fail: (what) => writeFileSync(trigger[what], '') };
}

/** A loop device over a new file of `size` bytes, at `path` if one is given. */
export async function loopDevice(cleanup: Cleanup, size: number, path?: string): Promise<string> {
  needMounts();
  needPrograms('losetup');
  const file = path ?? join(cleanup.folder('loop'), 'content');
  writeFileSync(file, '');
  truncateSync(file, size);
  const device = (await must('losetup', ['--show', '-f', file])).trim();
  cleanup.defer(`detach ${device}`, () => must('losetup', ['-d', device]));
  return device;
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
