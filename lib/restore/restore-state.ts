/**
 * The state file of a restore on demand: what is restored where, and which
 * blocks of it are there. It lies where its user sees it, and is named in every
 * message about it; the bitmaps behind the text are the addon's
 * (native/copy/restore_state.h tells why they may be believed).
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { deviceNumber } from '../host.js';
import { type Manifest, syncDirectory } from '../manifest.js';
import { removeName } from '../remove-name.js';
import { systemCode, systemError } from '../system-error.js';

const TEXT_BYTES = 4096;
const PAGE = 4096;
const BITMAP_PAGE_BLOCKS = PAGE * 8;
const DEVICE_STATES = '/var/lib/snapbak/restore';

/** What a restore is told from another by. */
export interface RestoreJob {
  format: 'snapbak restore state 1';
  backup: string;
  checksums: string;
  size: number;
  blockSize: number;
  /** For people. */
  to: string;
  /** What `to` was: see `destinationIdentity`. */
  destination: string;
}

/** An open state file. */
export interface RestoreStateFile {
  path: string;
  file: FileHandle;
  /** Removes its name; the restore is complete. */
  remove(): Promise<void>;
}

export function restoreJob(manifest: Manifest, to: string, destination: string): RestoreJob {
  const { id, checksums, size, blockSize } = manifest;
  const format = 'snapbak restore state 1';
  return { format, backup: id, checksums: checksums.sha256, size, blockSize, to, destination };
}

/** Where it lies unless the user says: beside a file; for a device in `/var/lib/snapbak/restore`. */
export function defaultStatePath(to: string, isDevice: boolean): string {
  if (!isDevice) return `${to}.restore-state`;
  return join(DEVICE_STATES, `${to.slice(1).replaceAll('/', '-')}.restore-state`);
}

/** Opens the state of an interrupted restore; undefined if there is none. */
export async function openState(path: string): Promise<(RestoreStateFile & { job: RestoreJob }) | undefined> {
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
    if (systemCode(cause) === 'ENOENT') return undefined;
    throw systemError('ERR_SNAPBAK_RESTORE', `cannot open the state file ${path}`, cause, path);
  });
  if (file === undefined) return undefined;
  try {
    return { path, file, remove: () => removeName(path, file), job: await readJob(file, path) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readJob(file: FileHandle, path: string): Promise<RestoreJob> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(TEXT_BYTES), 0, TEXT_BYTES, 0);
  let job: RestoreJob | undefined;
  try {
    job = JSON.parse(buffer.toString('utf8', 0, bytesRead)) as RestoreJob;
  } catch {
    // told below
  }
  const { size } = await file.stat();
  if (job?.format === 'snapbak restore state 1' && size === stateBytes(job.size, job.blockSize)) return job;
  throw new SnapbakError('ERR_SNAPBAK_RESTORE', `${path} is no state file of a restore, or is damaged`, {
    path,
  });
}

/** Makes the state file of a restore that begins, whole, durable, and then by its name. */
export async function makeState(
  path: string,
  job: RestoreJob,
  native: NativeBinding,
): Promise<RestoreStateFile> {
  const failed = (cause: unknown) =>
    systemError(
      'ERR_SNAPBAK_RESTORE',
      `cannot make the state file ${path} (options.state, --state, names another place)`,
      cause,
      path,
    );
  if (path.startsWith(`${DEVICE_STATES}/`)) {
    await mkdir(DEVICE_STATES, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
      throw failed(cause);
    });
  }
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const fresh = `${path}.new`;
  await unlink(fresh).catch(() => {}); // of one that was interrupted right here
  const file = await open(fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600).catch((cause: unknown) => {
    throw failed(cause);
  });
  try {
    await native.preallocate(file.fd, stateBytes(job.size, job.blockSize));
    const text = Buffer.alloc(TEXT_BYTES, ' ');
    if (text.write(`${JSON.stringify(job)}\n`) >= TEXT_BYTES) throw new Error('the path is too long');
    await file.write(text, 0, TEXT_BYTES, 0);
    await file.sync();
    await rename(fresh, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    await unlink(fresh).catch(() => {});
    await file.close();
    throw failed(cause);
  }
  return { path, file, remove: () => removeName(path, file) };
}

/** RestoreState::FileBytes of the addon. */
function stateBytes(size: number, blockSize: number): number {
  const blocks = Math.ceil(size / blockSize);
  return 2 * TEXT_BYTES + 2 * Math.ceil(blocks / BITMAP_PAGE_BLOCKS) * PAGE;
}

/** Names this boot of the machine. */
export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/**
 * What must be the same when a restore goes on: a file by its inode and birth (by
 * its inode alone on a file system without times of birth), a loop device by its
 * file and the part of it, any other device by what the hardware or the volume
 * manager calls it, because names and numbers are given out anew at each boot. A
 * device that nothing tells from another is believed to be the same within one
 * boot only, and for as long as nothing else is behind its number.
 */
export async function destinationIdentity(path: string): Promise<string> {
  const stats = await stat(path, { bigint: true });
  if (!stats.isBlockDevice()) return `file ${stats.ino} ${stats.birthtimeNs}`;
  const number = deviceNumber(stats.rdev);
  const node = await realpath(`/sys/dev/block/${number}`);
  const partition = await firstLine(join(node, 'partition'));
  const disk = partition === undefined ? node : dirname(node);
  const part = partition === undefined ? '' : ` part ${partition} at ${await firstLine(join(node, 'start'))}`;
  for (const name of ['dm/uuid', 'wwid', 'device/wwid', 'serial', 'device/serial']) {
    const found = await firstLine(join(disk, name));
    if (found !== undefined && found !== '') return `device ${name} ${found}${part}`;
  }
  const loop = await loopIdentity(join(disk, 'loop'));
  if (loop !== undefined) return `device loop ${loop}${part}`;
  // counts what was ever behind a number: another file of a loop device, another volume
  const sequence = (await firstLine(join(disk, 'diskseq'))) ?? '';
  return `device ${number} ${sequence} of boot ${await bootId()}`;
}

/** Undefined for what is no loop device, or when its file is not found by its name any more. */
async function loopIdentity(folder: string): Promise<string | undefined> {
  const [path, offset, limit] = await Promise.all(
    ['backing_file', 'offset', 'sizelimit'].map((name) => firstLine(join(folder, name))),
  );
  if (!path || offset === undefined || limit === undefined) return undefined;
  const behind = await destinationIdentity(path).catch(() => undefined);
  return behind && `${path}, ${behind}, from ${offset} limit ${limit}`;
}

async function firstLine(path: string): Promise<string | undefined> {
  return (await readFile(path, 'utf8').catch(() => undefined))?.split('\n')[0]?.trim();
}
