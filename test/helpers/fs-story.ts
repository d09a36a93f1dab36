/**
 * The story of the file system scenarios: a mounted file system on the export,
 * a program that writes to it without a pause, a freeze around the start and
 * nothing else; then the proof on what was restored.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cleanup } from './cleanup.js';
import { type CliRun, expectExit } from './cli.js';
import { LiveWriter } from './live-writer.js';
import { type FileSystemKind, hashTree, MountedFs, withMountedImage } from './mounted-fs.js';
import { must, run } from './programs.js';
import { restored, serveImage, startBackup } from './served-image.js';

export interface FsStory {
  /** The image that was restored. */
  image: string;
  folder: string;
  /** Files written during the backup. */
  writtenDuring: number;
  captured: number;
}

export interface FsStoryOptions {
  /** Bytes of the disk. */
  size: number;
  /** Options of `snapbak backup`. */
  backup: string[];
  /** Called while the backup runs. */
  during?: (backup: CliRun) => Promise<void>;
}

/** Tells it, and fails unless every file of the start instant is in the restored image, and no other. */
export async function fsStory(
  cleanup: Cleanup,
  kind: FileSystemKind,
  options: FsStoryOptions,
): Promise<FsStory> {
  const disks = cleanup.folder('disk');
  const disk = join(disks, 'disk.img');
  writeFileSync(disk, '');
  truncateSync(disk, options.size);
  const served = await serveImage(cleanup, { image: disk });
  const fs = await MountedFs.make(kind, served.nbdSocket, served.folder);
  cleanup.defer('unmount', () => fs.close());
  const documents = join(fs.mountPoint, 'documents');
  mkdirSync(documents);
  for (let i = 0; i < 100; i += 1) writeFileSync(join(documents, `document-${i}`), `${i}\n`.repeat(20_000));
  const live = join(fs.mountPoint, 'live');
  mkdirSync(live);
  const writer = new LiveWriter(live);
  cleanup.defer('stop the writer', () => writer.stop().catch(() => {}));
  await writer.wrote(100);

  await fs.freeze();
  const directory = join(served.folder, 'backup');
  let backup: CliRun;
  let before: Map<string, string>;
  try {
    // before the backup, which should still have most of its way to go when the writer goes on
    before = await hashTree(fs.mountPoint);
    backup = startBackup(cleanup, served.origin, directory, ...options.backup);
    await backup.event('started');
  } finally {
    await fs.thaw();
  }
  const filesThen = writer.files;
  await writer.wrote(20);
  await options.during?.(backup);
  const event = (await backup.event('finished')) as unknown as {
    state: string;
    stats: { writers: { captured: number } };
  };
  const writtenDuring = writer.files - filesThen;
  await expectExit(0, backup.finished);
  assert.equal(event.state, 'complete');
  await writer.wrote(20);
  await writer.stop();
  // the live file system went through all of it, too
  const alive = await hashTree(fs.mountPoint);
  assert.ok(before.size >= 100 && alive.size >= 100, `${before.size} and ${alive.size} files`);

  const image = await restored(directory);
  const after = await withMountedImage(kind, image, join(served.folder, 'restored'), hashTree);
  assert.deepEqual([...after].sort(), [...before].sort());
  return { image, folder: served.folder, writtenDuring, captured: event.stats.writers.captured };
}

/** A copy of an xfs image whose log was replayed by a mount, as xfs_repair -n wants it. */
export async function replayLog(image: string, folder: string): Promise<string> {
  const copy = join(folder, 'replayed.img');
  const mountPoint = join(folder, 'replay');
  copyFileSync(image, copy);
  mkdirSync(mountPoint);
  await must('mount', ['-t', 'xfs', '-o', 'loop,nouuid', copy, mountPoint]);
  await must('umount', [mountPoint]);
  return copy;
}

/** Fails unless the checker of the file system finds nothing. */
export async function expectClean(program: string, args: string[]): Promise<void> {
  const { code, stdout, stderr } = await run(program, args);
  assert.equal(code, 0, `${program} ${args.join(' ')}\n${stdout}${stderr}`);
}
