/**
 * Where a backup is restored to, or cloned to while it is made: a new file, a
 * file that may be overwritten, or a block device, after the checks that keep
 * it from being the wrong one.
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { NativeBinding } from '../binding.js';
import { openDevice } from '../device.js';
import { SnapbakError, type SnapbakErrorCode } from '../errors.js';
import { formatSize } from '../extent.js';
import { type Host, thisHost } from '../host.js';
import { syncDirectory } from '../manifest.js';
import { fileDependence, isOrigin, type OriginPlace } from '../placement.js';
import { removeName } from '../remove-name.js';
import { systemCode, systemError } from '../system-error.js';
import type { BackupFiles } from './backup-files.js';
import { DEVICE_PATIENCE_MS, takeLock } from './destination-lock.js';

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

/** What is asked of it. */
export interface DestinationRequest {
  /** Bytes: a file gets them, a device must have them at least. */
  size: number;
  /** Overwrite a file that holds something, or a device with a file system, LVM or RAID. */
  force: boolean;
  /** Files that it must not be. */
  not: readonly { stat(): Promise<Stats> }[];
  /** What it must not depend on. */
  origin?: OriginPlace | undefined;
  /** What it is for. Default: a restore */
  purpose?: Purpose;
  native: NativeBinding;
  host?: Host | undefined;
}

/** The code of its errors, and the word for what is done, a verb and a noun at once. */
export interface Purpose {
  code: SnapbakErrorCode;
  word: string;
}

const RESTORE: Purpose = { code: 'ERR_SNAPBAK_RESTORE', word: 'restore' };

/** @throws SnapbakError of the purpose's code, with the reason; nothing is changed then */
export async function openDestination(to: string, request: DestinationRequest): Promise<Destination> {
  const { size, force, not, purpose = RESTORE } = request;
  const path = resolve(to);
  await checkLink(path, purpose);
  const stats = await stat(path).catch((cause: unknown) => {
    if (systemCode(cause) === 'ENOENT') return undefined;
    throw systemError(purpose.code, `cannot ${purpose.word} to ${path}`, cause, path);
  });
  await checkFilePlace(path, stats, request);
  if (stats === undefined) return createFile(path, request);
  await checkOther(path, stats, not, purpose);
  if (stats.isBlockDevice()) return openBlockDevice(path, request);
  if (!stats.isFile()) throw refused(path, 'is neither a file nor a block device', purpose);
  if (stats.size > 0 && !force) {
    throw refused(path, `exists and holds ${formatSize(stats.size)}; with force it is overwritten`, purpose);
  }
  return emptied(await openExisting(path, stats, request.native, purpose), path, size, false, purpose);
}

/** By what they are, not by their names: a backup has no second copy of them. */
async function checkOther(
  path: string,
  stats: Stats,
  not: DestinationRequest['not'],
  purpose: Purpose,
): Promise<void> {
  for (const file of not) {
    const own = await file.stat();
    const same = own.isBlockDevice()
      ? stats.isBlockDevice() && own.rdev === stats.rdev
      : own.dev === stats.dev && own.ino === stats.ino;
    if (same) throw refused(path, 'is part of the backup itself', purpose);
  }
}

/** A device is checked as it is opened. */
async function checkFilePlace(
  path: string,
  stats: Stats | undefined,
  { origin, purpose = RESTORE, host = thisHost }: DestinationRequest,
): Promise<void> {
  if (origin === undefined || stats?.isBlockDevice()) return;
  if (await isOrigin(path, origin, host)) throw refused(path, 'is the origin itself', purpose);
  const dependence = await fileDependence(dirname(path), origin, host);
  if (dependence === undefined) return;
  throw refused(path, `could wait for the writes that the backup holds: it ${dependence}`, purpose);
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
  await checkLink(path, RESTORE);
  const stats = await stat(path).catch((cause: unknown) => {
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot go on with the restore to ${path}`, cause, path);
  });
  await checkOther(path, stats, files.own, RESTORE);
  const { size } = files.manifest;
  if (stats.isBlockDevice()) return openBlockDevice(path, { size, force: true, not: [], native, host });
  if (!stats.isFile()) throw refused(path, 'is neither a file nor a block device', RESTORE);
  if (stats.size !== size) {
    throw refused(path, `has ${stats.size} bytes now, and had ${size}`, RESTORE);
  }
  const file = await openExisting(path, stats, native, RESTORE);
  const close = once(() => file.close());
  const commit = () => synced(file, path, RESTORE);
  return { fd: file.fd, fresh: false, commit, async discard() {}, close };
}

/**
 * A link leads where its maker wants, which may be a file that the caller never
 * meant. Only the system's own names of devices (`/dev/vg0/root`,
 * `/dev/disk/by-id/…`) are links that are followed.
 */
async function checkLink(path: string, purpose: Purpose): Promise<void> {
  const found = await lstat(path).catch(() => undefined); // stat() tells what is wrong
  if (!found?.isSymbolicLink()) return;
  const holder = await realpath(dirname(path));
  const ofSystem = holder === '/dev' || holder.startsWith('/dev/');
  if (ofSystem && (await stat(path)).isBlockDevice()) return;
  throw refused(path, 'is a symbolic link; name what it leads to', purpose);
}

async function createFile(
  path: string,
  { size, native, purpose = RESTORE }: DestinationRequest,
): Promise<Destination> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600).catch((cause: unknown) => {
    throw systemError(purpose.code, `cannot make ${path}`, cause, path);
  });
  await lock(file, path, native, purpose);
  return emptied(file, path, size, true, purpose);
}

async function openExisting(
  path: string,
  checked: Stats,
  native: NativeBinding,
  purpose: Purpose,
): Promise<FileHandle> {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
    throw systemError(purpose.code, `cannot write ${path}`, cause, path);
  });
  const { dev, ino } = await file.stat();
  if (dev !== checked.dev || ino !== checked.ino) {
    await file.close();
    throw refused(path, 'became another file while it was checked', purpose);
  }
  await lock(file, path, native, purpose);
  return file;
}

/** Before anything is changed. */
async function lock(
  file: FileHandle,
  path: string,
  native: NativeBinding,
  purpose: Purpose,
  patience?: number,
): Promise<void> {
  if (await takeLock(file, native, patience)) return;
  await file.close();
  throw refused(path, 'is in use: it is restored to, or served', purpose);
}

/** A file of `size` zero bytes, sparse. */
async function emptied(
  file: FileHandle,
  path: string,
  size: number,
  made: boolean,
  purpose: Purpose,
): Promise<Destination> {
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
    throw systemError(purpose.code, `cannot make ${path} of ${size} bytes`, cause, path);
  }
  const commit = async () => {
    await synced(file, path, purpose);
    if (made) await syncDirectory(dirname(path));
  };
  return { fd: file.fd, fresh: true, commit, discard, close };
}

async function openBlockDevice(path: string, request: DestinationRequest): Promise<Destination> {
  const { size, force, origin, native, host, purpose = RESTORE } = request;
  const { file } = await openDevice({
    path,
    minimum: size,
    force,
    direct: false,
    origin,
    refuse: (reason) => refused(path, reason, purpose),
    native,
    host,
  });
  await lock(file, path, native, purpose, DEVICE_PATIENCE_MS);
  return {
    fd: file.fd,
    fresh: false,
    commit: () => synced(file, path, purpose),
    async discard() {},
    close: once(() => file.close()),
  };
}

async function synced(file: FileHandle, path: string, { code }: Purpose): Promise<void> {
  try {
    await file.sync();
  } catch (cause) {
    throw systemError(code, `cannot make ${path} durable`, cause, path);
  }
}

function once(run: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= run();
    return running;
  };
}

function refused(path: string, reason: string, { code, word }: Purpose): SnapbakError {
  return new SnapbakError(code, `${word} refused: ${path} ${reason}`, { path });
}
