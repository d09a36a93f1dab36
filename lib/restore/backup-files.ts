/**
 * A finished backup, opened for reading: its manifest, and image and checksums
 * as far as they can be believed before a block was read.
 */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { BackupFolder } from '../backup-folder.js';
import type { NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import {
  type GroupManifest,
  MANIFEST_NAME,
  type Manifest,
  openManifestFolder,
  readManifestIn,
} from '../manifest.js';
import { diskOf } from '../manifest-disks.js';
import { checksumsSize } from '../manifest-format.js';
import { sha256Of } from '../sha256.js';
import { systemError } from '../system-error.js';

/** Of an open backup. */
export interface BackupFiles {
  manifest: Manifest;
  /** The image, from its first byte on. */
  image: FileHandle;
  /** Of the image, for errors. */
  imagePath: string;
  checksums: FileHandle;
  /** These, and every file of the backup's other disks, and its manifest: nothing may be restored over them. */
  own: readonly { stat(): Promise<Stats> }[];
  close(): Promise<void>;
}

/**
 * Opens a backup that is complete. Everything but an image on a device is
 * opened in the directory, and every name is a plain one.
 *
 * @param imageDevice the device with the image, as the caller named it. What
 *   the manifest names is not opened: a manifest that came from elsewhere could
 *   name any device of this machine.
 * @param disk which one, of a backup of several origins
 * @throws RangeError that names the disks, if none or another is named
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST, ERR_SNAPBAK_INCOMPLETE if the
 *   backup broke, ERR_SNAPBAK_CORRUPT if a file is missing or has another size
 *   than it had
 */
export async function openBackup(
  directory: string,
  native: NativeBinding,
  imageDevice?: string,
  disk?: string,
): Promise<BackupFiles> {
  await using folder = await openManifestFolder(directory);
  const whole = await readManifestIn(folder);
  const manifest = diskOf(whole, directory, disk);
  if (manifest.state === 'broken') {
    const why = manifest.error === undefined ? '' : `: ${manifest.error.message}`;
    const what = disk === undefined ? 'the backup' : `disk ${disk} of the backup`;
    throw new SnapbakError('ERR_SNAPBAK_INCOMPLETE', `${what} in ${directory} was broken${why}`, {
      path: directory,
    });
  }
  if (manifest.image.kind === 'custom') {
    throw unreadable(
      directory,
      `the image of the backup in ${directory} was stored by a program of its own, which must read it`,
    );
  }
  const files: FileHandle[] = [];
  const close = async () => {
    for (const file of files.splice(0)) await file.close();
  };
  try {
    const [image, imagePath] = await openImage(folder, manifest.image, imageDevice);
    files.push(image);
    checkImageSize(manifest, native.deviceSize(image.fd), imagePath);
    const checksums = await openFile(folder, manifest.checksums.name);
    files.push(checksums);
    const own = [image, checksums, ...(await filesIn(folder, whole))];
    return { manifest, image, imagePath, checksums, own, close };
  } catch (cause) {
    await close();
    throw systemError('ERR_SNAPBAK_IO', `cannot open the backup in ${directory}`, cause, directory);
  }
}

/** What there is of all that the manifest names, and itself: as it is now, whatever its name means later. */
async function filesIn(folder: BackupFolder, whole: Manifest | GroupManifest): Promise<BackupFiles['own']> {
  const names = [MANIFEST_NAME];
  for (const { image, checksums } of 'disks' in whole ? whole.disks : [whole]) {
    if (image.kind === 'file') names.push(image.name);
    names.push(checksums.name);
  }
  const found = await Promise.all(
    names.map((name) => lstat(join(folder.place, name)).catch(() => undefined)), // one that is gone is harmed by nobody
  );
  return found.filter((stats) => stats !== undefined).map((stats) => ({ stat: async () => stats }));
}

async function openFile(folder: BackupFolder, name: string): Promise<FileHandle> {
  try {
    return await folder.openFile(name);
  } catch (cause) {
    const path = join(folder.path, name);
    throw systemError('ERR_SNAPBAK_CORRUPT', `cannot open ${path} of the backup`, cause, path);
  }
}

/** The image and what to call it. */
async function openImage(
  folder: BackupFolder,
  image: Exclude<Manifest['image'], { kind: 'custom' }>,
  imageDevice: string | undefined,
): Promise<[image: FileHandle, path: string]> {
  if (image.kind === 'file') {
    if (imageDevice === undefined) return [await openFile(folder, image.name), join(folder.path, image.name)];
    const message = `the image of the backup in ${folder.path} is a file in it, not on the device ${imageDevice}`;
    throw unreadable(folder.path, message);
  }
  if (imageDevice !== undefined) {
    const path = resolve(imageDevice);
    return [await openImageDevice(path), path];
  }
  throw unreadable(
    folder.path,
    `the image of the backup in ${folder.path} is on a device, and its manifest says ${image.path}; ` +
      'if you trust that, name the device yourself (imageDevice, --image-device): ' +
      'a manifest from elsewhere could name any device of this machine',
  );
}

async function openImageDevice(path: string): Promise<FileHandle> {
  const none = () => unreadable(path, `${path}, named as the device with the image, is no block device`);
  let file: FileHandle;
  try {
    // looked at first: to open a device of another kind can have effects
    if (!(await stat(path)).isBlockDevice()) throw none();
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_IO', `cannot open the device ${path} that holds the image`, cause, path);
  }
  if ((await file.stat()).isBlockDevice()) return file;
  await file.close();
  throw none();
}

function unreadable(path: string, message: string): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_MANIFEST', message, { path });
}

function checkImageSize({ image, size }: Manifest, found: number, path: string): void {
  // a device may be larger than the image on it
  if (image.kind === 'file' ? found === size : found >= size) return;
  const message = `${path} is damaged: it has ${found} bytes, the manifest says ${size}`;
  throw new SnapbakError('ERR_SNAPBAK_CORRUPT', message, { path });
}

/**
 * Compares `checksums` with the digest in the manifest: only then its sums say
 * anything about blocks.
 *
 * @throws SnapbakError ERR_SNAPBAK_CORRUPT
 */
export async function checkChecksums(
  directory: string,
  files: BackupFiles,
  signal?: AbortSignal,
): Promise<void> {
  await checkChecksumsSize(directory, files);
  if ((await sha256Of(files.checksums, signal)) === files.manifest.checksums.sha256) return;
  throw damagedChecksums(directory, files, 'its SHA-256 is not the one in the manifest');
}

/**
 * The part of it that costs nothing, and the first: a sparse file may be so long
 * that its digest takes years.
 */
export async function checkChecksumsSize(directory: string, files: BackupFiles): Promise<void> {
  const { manifest, checksums } = files;
  const expected = checksumsSize(manifest.size, manifest.blockSize);
  const { size } = await checksums.stat();
  if (size === expected) return;
  throw damagedChecksums(directory, files, `it has ${size} bytes, and should have ${expected}`);
}

function damagedChecksums(directory: string, { manifest }: BackupFiles, why: string): SnapbakError {
  const path = join(directory, manifest.checksums.name);
  return new SnapbakError(
    'ERR_SNAPBAK_CORRUPT',
    `the checksum file ${path} is damaged: ${why}; nothing is known of the image`,
    { path },
  );
}
