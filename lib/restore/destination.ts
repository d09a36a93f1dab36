/**
 * Where a backup is restored to: a new file, a file that may be overwritten, or
 * a block device, after the checks that keep it from being the wrong one.
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { NativeBinding } from '../binding.js';
import { openDevice } from '../device.js';
import { SnapbakError } from '../errors.js';
import { formatSize } from '../extent.js';
import { type Host, thisHost } from '../host.js';
import { syncDirectory } from '../manifest.js';
import { removeName } from '../remove-name.js';
import { systemCode, systemError } from '../system-error.js';
import type { BackupFiles } from './backup-files.js';

/** Open for writing. */
export interface Destination {
  fd: number;
  /** It reads as zeroes. */
  fresh: boolean;
  /** Makes it durable. */
  commit(): Promise<void>;
  /** Removes a file that was made for this; anything else stays as it is. */
  discard(): Promise<void>;
  close(): Promise<void>;
}

/** @throws SnapbakError ERR_SNAPBAK_RESTORE with the reason; nothing is changed then */
export async function openDestination(
  to: string,
  files: BackupFiles,
  force: boolean,
  native: NativeBinding,
  host: Host = thisHost,
): Promise<Destination> {
  const path = resolve(to);
  await checkLink(path);
  const stats = await stat(path).catch((cause: unknown) => {
    if (systemCode(cause) === 'ENOENT') return undefined;
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot restore to ${path}`, cause, path);
  });
  if (stats === undefined) return createFile(path, files.manifest.size, native);
  for (const file of [files.image, files.checksums]) {
    const own = await file.stat();
    const same = own.isBlockDevice()
      ? stats.isBlockDevice() && own.rdev === stats.rdev
      : own.dev === stats.dev && own.ino === stats.ino;
    if (same) throw refused(path, 'is part of the backup itself');
  }
  if (stats.isBlockDevice()) return openBlockDevice(path, files, force, native, host);
  if (!stats.isFile()) throw refused(path, 'is neither a file nor a block device');
  if (stats.size > 0 && !force) {
    throw refused(path, `exists and holds ${formatSize(stats.size)}; with force it is overwritten`);
  }
  return emptied(await openExisting(path, stats, native), path, files.manifest.size, false);
}

/**
 * Opens again where a restore was interrupted: nothing is emptied, and a device
 * may hold what was restored. That it is the same one is the caller's to know.
 *
 * @throws SnapbakError ERR_SNAPBAK_RESTORE with the reason
 */
export async function reopenDestination(
  to: string,
  files: BackupFiles,
  native: NativeBinding,
  host: Host = thisHost,
): Promise<Destination> {
  const path = resolve(to);
  await checkLink(path);
  const stats = await stat(path).catch((cause: unknown) => {
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot go on with the restore to ${path}`, cause, path);
  });
  if (stats.isBlockDevice()) return openBlockDevice(path, files, true, native, host);
  if (!stats.isFile()) throw refused(path, 'is neither a file nor a block device');
  if (stats.size !== files.manifest.size) {
    throw refused(path, `has ${stats.size} bytes now, and had ${files.manifest.size}`);
  }
  const file = await openExisting(path, stats, native);
  const close = once(() => file.close());
  return { fd: file.fd, fresh: false, commit: () => synced(file, path), async discard() {}, close };
}

/**
 * A link leads where its maker wants, which may be a file that the caller never
 * meant. Only the system's own names of devices (`/dev/vg0/root`,
 * `/dev/disk/by-id/…`) are links that are followed.
 */
async function checkLink(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined); // stat() tells what is wrong
  if (!found?.isSymbolicLink()) return;
  const holder = await realpath(dirname(path));
  const ofSystem = holder === '/dev' || holder.startsWith('/dev/');
  if (ofSystem && (await stat(path)).isBlockDevice()) return;
  throw refused(path, 'is a symbolic link; name what it leads to');
}

async function createFile(path: string, size: number, native: NativeBinding): Promise<Destination> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600).catch((cause: unknown) => {
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot make ${path}`, cause, path);
  });
  await lock(file, path, native);
  return emptied(file, path, size, true);
}

async function openExisting(path: string, checked: Stats, native: NativeBinding): Promise<FileHandle> {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot write ${path}`, cause, path);
  });
  const { dev, ino } = await file.stat();
  if (dev !== checked.dev || ino !== checked.ino) {
    await file.close();
    throw refused(path, 'became another file while it was checked');
  }
  await lock(file, path, native);
  return file;
}

/** Before anything is changed: another restore, or a driver that serves the file, keeps it. */
async function lock(file: FileHandle, path: string, native: NativeBinding): Promise<void> {
  try {
    native.lockFile(file.fd);
  } catch (cause) {
    if (systemCode(cause) !== 'EBUSY') return; // a file system that has no locks
    await file.close();
    throw refused(path, 'is in use: it is restored to, or served');
  }
}

/** A file of `size` zero bytes, sparse. */
async function emptied(file: FileHandle, path: string, size: number, made: boolean): Promise<Destination> {
  const close = once(() => file.close());
  const discard = async () => {
    if (made) await removeName(path, file).catch(() => {});
  };
  try {
    await file.truncate(0);
    await file.truncate(size);
  } catch (cause) {
    await discard();
    await close();
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot make ${path} of ${size} bytes`, cause, path);
  }
  const commit = async () => {
    await synced(file, path);
    if (made) await syncDirectory(dirname(path));
  };
  return { fd: file.fd, fresh: true, commit, discard, close };
}

async function openBlockDevice(
  path: string,
  { manifest }: BackupFiles,
  force: boolean,
  native: NativeBinding,
  host: Host,
): Promise<Destination> {
  const { file } = await openDevice({
    path,
    minimum: manifest.size,
    force,
    direct: false,
    refuse: (reason) => refused(path, reason),
    native,
    host,
  });
  return {
    fd: file.fd,
    fresh: false,
    commit: () => synced(file, path),
    async discard() {},
    close: once(() => file.close()),
  };
}

async function synced(file: FileHandle, path: string): Promise<void> {
  try {
    await file.sync();
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot make ${path} durable`, cause, path);
  }
}

function once(run: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= run();
    return running;
  };
}

function refused(path: string, reason: string): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_RESTORE', `restore refused: ${path} ${reason}`, { path });
}
