/**
 * A finished backup, opened for reading: its manifest, and image and checksums
 * as far as they can be believed before a block was read.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { type Manifest, openPlain, readManifest } from '../manifest.js';
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
  close(): Promise<void>;
}

/**
 * Opens a backup that is complete.
 *
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST, ERR_SNAPBAK_INCOMPLETE if the
 *   backup broke, ERR_SNAPBAK_CORRUPT if a file is missing or has another size
 *   than it had
 */
export async function openBackup(directory: string, native: NativeBinding): Promise<BackupFiles> {
  const manifest = await readManifest(directory);
  if (manifest.state === 'broken') {
    const why = manifest.error === undefined ? '' : `: ${manifest.error.message}`;
    throw new SnapbakError('ERR_SNAPBAK_INCOMPLETE', `the backup in ${directory} was broken${why}`, {
      path: directory,
    });
  }
  if (manifest.image.kind === 'custom') {
    const message = `the image of the backup in ${directory} was stored by a program of its own, which must read it`;
    throw new SnapbakError('ERR_SNAPBAK_MANIFEST', message, { path: directory });
  }
  const files: FileHandle[] = [];
  const close = async () => {
    for (const file of files.splice(0)) await file.close();
  };
  try {
    const image = await openImage(directory, manifest.image);
    files.push(image);
    const imagePath =
      manifest.image.kind === 'file' ? join(directory, manifest.image.name) : manifest.image.path;
    checkImageSize(manifest, native.deviceSize(image.fd), imagePath);
    const checksums = await openFile(directory, manifest.checksums.name);
    files.push(checksums);
    return { manifest, image, imagePath, checksums, close };
  } catch (cause) {
    await close();
    throw systemError('ERR_SNAPBAK_IO', `cannot open the backup in ${directory}`, cause, directory);
  }
}

async function openFile(directory: string, name: string): Promise<FileHandle> {
  try {
    return await openPlain(directory, name, constants.O_RDONLY);
  } catch (cause) {
    const path = join(directory, name);
    throw systemError('ERR_SNAPBAK_CORRUPT', `cannot open ${path} of the backup`, cause, path);
  }
}

async function openImage(
  directory: string,
  image: Exclude<Manifest['image'], { kind: 'custom' }>,
): Promise<FileHandle> {
  if (image.kind === 'file') return openFile(directory, image.name);
  const { path } = image;
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_IO', `cannot open the device ${path} that holds the image`, cause, path);
  }
  if ((await file.stat()).isBlockDevice()) return file;
  await file.close();
  throw new SnapbakError(
    'ERR_SNAPBAK_MANIFEST',
    `the manifest names ${path} as the device with the image, but it is no block device`,
    { path },
  );
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
  const { manifest, checksums } = files;
  if ((await sha256Of(checksums, signal)) === manifest.checksums.sha256) return;
  const path = join(directory, manifest.checksums.name);
  throw new SnapbakError(
    'ERR_SNAPBAK_CORRUPT',
    `the checksum file ${path} is damaged: its SHA-256 is not the one in the manifest; nothing is known of the image`,
    { path },
  );
}
