/**
 * The directory on tmpfs that holds every image, socket and target of a run, so that no disk is measured.
 * `/dev/shm` where that is a tmpfs with room; else a tmpfs of our own, which needs root.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onCleanup } from './cleanup.js';

const TMPFS_MAGIC = 0x01021994;

export class Workspace {
  readonly directory: string;
  #unique = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** A name that was not used before in this run: sockets and pid files of ended servers stay behind. */
  unique(name: string): string {
    this.#unique += 1;
    return this.path(`${this.#unique}-${name}`);
  }

  /** A new, empty directory; whatever was at that name is removed first. */
  freshDirectory(name: string): string {
    const path = this.path(name);
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    return path;
  }

  /** A new file that is one hole of `size` bytes. */
  sparseFile(name: string, size: number): string {
    const path = this.path(name);
    rmSync(path, { force: true });
    const fd = openSync(path, 'wx', 0o600);
    try {
      ftruncateSync(fd, size);
    } finally {
      closeSync(fd);
    }
    return path;
  }

  /** A new file of `size` zero bytes, every page of it allocated. */
  allocatedFile(name: string, size: number): string {
    const path = this.path(name);
    rmSync(path, { force: true });
    execFileSync('fallocate', ['--length', String(size), path]);
    return path;
  }

  /** A new file of `size` random bytes: nothing in it compresses or is zero. */
  randomFile(name: string, size: number): string {
    const path = this.path(name);
    const chunk = Buffer.allocUnsafe(Math.min(size, 16 << 20));
    rmSync(path, { force: true });
    const fd = openSync(path, 'wx', 0o600);
    try {
      for (let offset = 0; offset < size; offset += chunk.length) {
        const part = chunk.subarray(0, Math.min(chunk.length, size - offset));
        randomFillSync(part);
        writeSync(fd, part, 0, part.length, offset);
      }
    } finally {
      closeSync(fd);
    }
    return path;
  }

  remove(...names: string[]): void {
    for (const name of names) rmSync(this.path(name), { recursive: true, force: true });
  }
}

/**
 * Makes the workspace and sees to its removal.
 *
 * @param bytes what the run keeps in it and in shared memory at its fullest
 * @throws Error if the memory is not there, or no tmpfs can be had
 */
export function makeWorkspace(bytes: number): Workspace {
  const available =
    Number(/^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
  if (available < bytes) {
    throw new Error(
      `the benchmarks keep ${gib(bytes)} in memory and ${gib(available)} are available; ` +
        'try --quick, which needs a quarter of it',
    );
  }
  const shm = statfs('/dev/shm');
  const useShm = shm !== undefined && shm.type === TMPFS_MAGIC && shm.bavail * shm.bsize >= bytes;
  const directory = mkdtempSync(join(useShm ? '/dev/shm' : tmpdir(), 'snapbak-bench-'));
  onCleanup(() => rmSync(directory, { recursive: true, force: true }));
  if (!useShm) {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=0700`, 'snapbak-bench', directory], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
    } catch (error) {
      throw new Error(
        `/dev/shm has no ${gib(bytes)} free, and a tmpfs of our own cannot be mounted (root may)`,
        {
          cause: error,
        },
      );
    }
    // lazily: a server that was just killed may still be on its way out
    onCleanup(() => void execFileSync('umount', ['--lazy', directory]));
  }
  return new Workspace(directory);
}

function statfs(path: string) {
  try {
    return statfsSync(path);
  } catch {
    return undefined;
  }
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
