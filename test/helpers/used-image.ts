/**
 * Proof of a used-block list: of an image only what is listed is copied, into a
 * file of the same size that is full of garbage.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BlockList } from '../../lib/blocks/block-list.js';
import { type UsedBlocks, usedBlocks } from '../../lib/blocks/used/used-blocks.js';
import { hashTree } from './mounted-fs.js';
import { must } from './programs.js';

const CHURN = fileURLToPath(new URL('churn.mjs', import.meta.url));
const STEP = 1 << 20;

/** Makes an image file of that many bytes, all holes. */
export function emptyImage(path: string, size: number): string {
  const fd = openSync(path, 'wx');
  ftruncateSync(fd, size);
  closeSync(fd);
  return path;
}

/** Makes a swap space of an image as it is while a machine hibernates on it. */
export async function hibernate(image: string): Promise<void> {
  await must('mkswap', [image]);
  const fd = openSync(image, 'r+');
  writeSync(fd, 'S1SUSPEND\0', 4086);
  closeSync(fd);
}

/** Copies one file into another, from the byte `seek` on. */
export async function embed(from: string, to: string, seek: number): Promise<void> {
  const flags = ['bs=1M', 'conv=notrunc,sparse', 'oflag=seek_bytes', 'status=none'];
  await must('dd', [`if=${from}`, `of=${to}`, `seek=${seek}`, ...flags]);
}

/** Lists the used blocks of `image` and copies them, and nothing else. */
export async function copyUsed(image: string, copy: string): Promise<UsedBlocks> {
  const found = await usedBlocks(image);
  copyListed(image, copy, found.list);
  return found;
}

/** Copies the listed bytes of `image` into a file of garbage. */
export function copyListed(image: string, copy: string, list: BlockList): void {
  const from = openSync(image, 'r');
  const to = openSync(copy, 'w');
  try {
    const { size } = fstatSync(from);
    const garbage = garbageBlock();
    for (let at = 0; at < size; at += STEP) writeSync(to, garbage, 0, Math.min(STEP, size - at), at);
    const buffer = Buffer.alloc(STEP);
    for (const { offset, length } of list) {
      for (let done = 0; done < length; ) {
        const bytes = readSync(from, buffer, 0, Math.min(STEP, length - done), offset + done);
        if (bytes === 0) throw new Error(`${image} ends before ${offset + length}`);
        writeSync(to, buffer, 0, bytes, offset + done);
        done += bytes;
      }
    }
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

/** Nothing that any file system could take for its own. */
function garbageBlock(): Buffer {
  const garbage = Buffer.alloc(STEP);
  for (let at = 0; at < STEP; at += 32)
    createHash('sha256').update(`garbage ${at}`).digest().copy(garbage, at);
  return garbage;
}

/** Mounts `what` while `use` runs. */
export async function withMount<T>(
  what: string,
  mountPoint: string,
  options: string,
  use: (path: string) => Promise<T>,
): Promise<T> {
  mkdirSync(mountPoint, { recursive: true });
  await must('mount', ['-o', options, what, mountPoint]);
  try {
    return await use(mountPoint);
  } finally {
    // whatever other mount namespace keeps it mounted: from here on it is written to no more
    if (!/\bro\b/.test(options)) await must('mount', ['-o', 'remount,ro', mountPoint]);
    await must('umount', [mountPoint]);
  }
}

/** Fills the file system on an image by making and removing files; the loop device keeps the old inode. */
export async function fill(
  image: string,
  folder: string,
  seed: number,
  operations: number,
  options = 'loop',
): Promise<void> {
  await withMount(image, join(folder, 'mnt'), options, async (path) => {
    await must(process.execPath, [CHURN, path, `${seed}`, `${operations}`]);
  });
  await must('cp', ['--sparse=always', image, `${image}-filled`]);
  renameSync(`${image}-filled`, image);
}

/** The program that {@link fill} runs, for ever. */
export function churnArguments(path: string, seed: number): string[] {
  return [CHURN, path, `${seed}`];
}

/** Every file of the file system on an image. */
export async function filesOf(
  image: string,
  folder: string,
  options = 'loop,ro',
): Promise<Map<string, string>> {
  return await withMount(image, join(folder, 'mnt'), options, hashTree);
}
