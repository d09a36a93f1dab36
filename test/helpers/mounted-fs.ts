/**
 * A real file system on an export, as a user would have it: nbdfuse shows the
 * export as a file, a loop device makes a disk of it, and the file system on
 * that disk is mounted. Its writes go the whole way: file system, loop,
 * nbdfuse, NBD, the server.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { Cleanup } from './cleanup.js';
import { ended, must, needMounts, needPrograms, run, start, until } from './programs.js';

export type FileSystemKind = 'ext4' | 'xfs';

const MKFS: Record<FileSystemKind, string[]> = {
  ext4: ['mkfs.ext4', '-q', '-F'],
  xfs: ['mkfs.xfs', '-q', '-f'],
};

export class MountedFs {
  readonly mountPoint: string;
  /** The loop device. */
  readonly device: string;
  #cleanup: Cleanup;
  #frozen = false;

  private constructor(mountPoint: string, device: string, cleanup: Cleanup) {
    this.mountPoint = mountPoint;
    this.device = device;
    this.#cleanup = cleanup;
  }

  /**
   * @param nbdSocket the export's Unix socket
   * @param folder an empty folder for the mount points
   */
  static async make(kind: FileSystemKind, nbdSocket: string, folder: string): Promise<MountedFs> {
    needMounts();
    needPrograms('nbdfuse', 'fusermount3', 'losetup', 'mount', 'umount', 'fsfreeze', MKFS[kind][0]!);
    const cleanup = new Cleanup();
    try {
      const fuse = join(folder, 'fuse');
      const mountPoint = join(folder, 'mnt');
      mkdirSync(fuse, { recursive: true });
      mkdirSync(mountPoint, { recursive: true });
      const nbdfuse = start('nbdfuse', [fuse, `nbd+unix:///?socket=${nbdSocket}`]);
      const gone = ended(nbdfuse);
      let early: string | undefined;
      gone.then(
        (result) => {
          early = `nbdfuse ended: ${result.stderr}`;
        },
        (error: Error) => {
          early = error.message;
        },
      );
      cleanup.defer('end nbdfuse', async () => {
        // the loop device lets go of its file a moment after losetup -d
        const asked = until('nbdfuse unmounted', async () => {
          return early !== undefined || (await run('fusermount3', ['-u', fuse])).code === 0;
        });
        await asked.catch(() => run('umount', ['-l', fuse]));
        const forced = setTimeout(() => nbdfuse.kill('SIGKILL'), 10_000);
        await gone.catch(() => {});
        clearTimeout(forced);
      });
      await until('nbdfuse shows the export', () => {
        if (early !== undefined) throw new Error(early);
        return existsSync(join(fuse, 'nbd'));
      });
      const device = (await must('losetup', ['--show', '-f', join(fuse, 'nbd')])).trim();
      cleanup.defer(`detach ${device}`, () => must('losetup', ['-d', device]));
      await must(MKFS[kind][0]!, [...MKFS[kind].slice(1), device]);
      await must('mount', ['-t', kind, device, mountPoint]);
      cleanup.defer(`unmount ${mountPoint}`, async () => {
        // a server that answers no more would hold this for ever: without nbdfuse its I/O fails instead
        const stuck = setTimeout(() => nbdfuse.kill('SIGKILL'), 30_000);
        const unmounted = until('unmounted', async () => (await run('umount', [mountPoint])).code === 0);
        await unmounted.catch(() => run('umount', ['-l', mountPoint]));
        clearTimeout(stuck);
      });
      return new MountedFs(mountPoint, device, cleanup);
    } catch (error) {
      await cleanup.run().catch(() => {});
      throw error;
    }
  }

  /** Everything written is on the export, and writers wait until thaw(). */
  async freeze(): Promise<void> {
    await must('fsfreeze', ['-f', this.mountPoint]);
    this.#frozen = true;
  }

  async thaw(): Promise<void> {
    if (!this.#frozen) return;
    this.#frozen = false;
    await must('fsfreeze', ['-u', this.mountPoint]);
  }

  /** Thaws, unmounts, detaches, ends nbdfuse. Idempotent. */
  async close(): Promise<void> {
    await this.thaw().catch(() => {});
    await this.#cleanup.run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Mounts an image read-only while `use` runs. Nothing on it is changed, no log is replayed. */
export async function withMountedImage<T>(
  kind: FileSystemKind,
  image: string,
  mountPoint: string,
  use: (path: string) => Promise<T>,
): Promise<T> {
  mkdirSync(mountPoint, { recursive: true });
  // the file system that it is a copy of is mounted too, hence nouuid
  const options = kind === 'xfs' ? 'loop,ro,norecovery,nouuid' : 'loop,ro,noload';
  await must('mount', ['-t', kind, '-o', options, image, mountPoint]);
  try {
    return await use(mountPoint);
  } finally {
    await must('umount', [mountPoint]);
  }
}

/** SHA-256 of a file, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Every regular file below a folder with its length and SHA-256, by its path from there. */
export async function hashTree(folder: string): Promise<Map<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const tree = new Map<string, string>();
  for (const path of files.sort()) tree.set(relative(folder, path), await hashFile(path));
  return tree;
}
