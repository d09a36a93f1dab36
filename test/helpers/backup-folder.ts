/**
 * Finished backups made by hand, for what reads them: a directory with image,
 * checksums and manifest, as a directory target leaves it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type DiskManifest,
  type GroupManifest,
  groupManifest,
  type Manifest,
  type ManifestDraft,
  writeManifest,
} from '../../lib/manifest.js';
import { TOOL_VERSION } from '../../lib/tool-version.js';
import { crc32c } from './fake-binding.js';

/** A draft of a complete backup of all of `size` bytes. */
export function draft(size: number, blockSize = 4096, changes: Partial<ManifestDraft> = {}): ManifestDraft {
  return {
    id: randomUUID(),
    state: 'complete',
    createdAt: '2030-01-02T03:04:05.000Z',
    startedAt: '2030-01-02T03:04:06.000Z',
    finishedAt: '2030-01-02T03:05:06.000Z',
    origin: { driver: 'embedded', id: 'disk.img', size },
    size,
    blockSize,
    blocks: size === 0 ? [] : [[0, size]],
    invalidBlocks: [],
    statistics: { capturedBlocks: 0 },
    ...changes,
  };
}

/** A manifest of a complete backup in a file. */
export function manifestOf(size: number, changes: Partial<Manifest> = {}, blockSize = 4096): Manifest {
  return {
    formatVersion: 1,
    tool: { name: 'snapbak', version: TOOL_VERSION },
    ...draft(size, blockSize),
    image: { kind: 'file', name: 'data.img' },
    checksums: { name: 'checksums', algorithm: 'crc32c', sha256: '0'.repeat(64) },
    ...changes,
  };
}

/** The checksums file of an image: listed blocks only, the others 0. */
export function checksumsOf(image: Buffer, { blocks, blockSize }: ManifestDraft): Buffer {
  const sums = Buffer.alloc(4 * Math.ceil(image.length / blockSize));
  for (const [offset, length] of blocks) {
    for (let at = offset; at < offset + length; at += blockSize) {
      sums.writeUInt32LE(
        crc32c(image.subarray(at, Math.min(at + blockSize, image.length))),
        (4 * at) / blockSize,
      );
    }
  }
  return sums;
}

/** Writes a backup of `image` into `directory`, which is made. */
export async function makeBackup(
  directory: string,
  image: Buffer,
  changes: Partial<Manifest> = {},
  blockSize = 4096,
): Promise<Manifest> {
  mkdirSync(directory, { mode: 0o700 });
  const manifest = manifestOf(image.length, changes, blockSize);
  const sums = checksumsOf(image, manifest);
  writeFileSync(join(directory, 'data.img'), image);
  writeFileSync(join(directory, 'checksums'), sums);
  const sha256 = createHash('sha256').update(sums).digest('hex');
  manifest.checksums = { ...manifest.checksums, sha256, ...changes.checksums };
  await writeManifest(directory, manifest);
  return manifest;
}

/** What the manifest of several says of a disk. */
export function diskManifestOf(
  name: string,
  size: number,
  changes: Partial<DiskManifest> = {},
  blockSize = 4096,
): DiskManifest {
  const { state, origin, blocks, invalidBlocks, statistics } = draft(size, blockSize);
  return {
    name,
    ...{ state, origin, size, blockSize, blocks, invalidBlocks, statistics },
    image: { kind: 'file', name: `${name}.img` },
    checksums: { name: `${name}.checksums`, algorithm: 'crc32c', sha256: '0'.repeat(64) },
    ...changes,
  };
}

/** The manifest of a backup of these disks. */
export function groupManifestOf(...disks: DiskManifest[]): GroupManifest {
  return groupManifest(draft(0), disks);
}

/** Writes a backup of several disks into `directory`, which is made. */
export async function makeGroupBackup(
  directory: string,
  images: Record<string, Buffer>,
  changes: Record<string, Partial<DiskManifest>> = {},
): Promise<GroupManifest> {
  mkdirSync(directory, { mode: 0o700 });
  const disks = Object.entries(images).map(([name, image]) => {
    const disk = diskManifestOf(name, image.length, changes[name]);
    const sums = checksumsOf(image, {
      ...draft(image.length),
      blocks: disk.blocks,
      blockSize: disk.blockSize,
    });
    writeFileSync(join(directory, `${name}.img`), image);
    writeFileSync(join(directory, `${name}.checksums`), sums);
    const sha256 = createHash('sha256').update(sums).digest('hex');
    return { ...disk, checksums: { ...disk.checksums, sha256 } };
  });
  const manifest = groupManifestOf(...disks);
  await writeManifest(directory, manifest);
  return manifest;
}
