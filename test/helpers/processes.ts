/** What a process has: memory, threads, descriptors, mappings, children. Read from /proc, of this process or another. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Resources {
  /** Resident memory, bytes. */
  rss: number;
  threads: number;
  descriptors: number;
}

export function resourcesOf(pid: number): Resources {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    rss: field('VmRSS') * 1024,
    threads: field('Threads'),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** What the descriptors of a process lead to, sorted; anonymous inodes and sockets without their numbers. */
export function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder)
    .flatMap((fd) => {
      try {
        return [readlinkSync(join(folder, fd)).replace(/:\[\d+\]$/, '')];
      } catch {
        return []; // that by which the folder was read
      }
    })
    .filter((name) => name !== folder)
    .sort();
}

/** How many mappings of shared memory of ours a process has. */
export function sharedMappings(pid: number): number {
  return readFileSync(`/proc/${pid}/maps`, 'latin1')
    .split('\n')
    .filter((line) => line.includes('memfd:')).length;
}

/** The processes whose parent is `pid`. */
export function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`)
    .flatMap((task) => {
      try {
        return readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').split(' ');
      } catch {
        return []; // a thread that has ended
      }
    })
    .filter((child) => child !== '')
    .map(Number);
}

/** The program of a process, also of one that nobody has waited for; empty if it is gone. */
export function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

/** The loop devices whose files lie in a folder. */
export function loopDevicesIn(folder: string): string[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .filter((name) => {
      try {
        return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').startsWith(folder);
      } catch {
        return false; // it has no file
      }
    });
}

/** What is in `after` and not in `before`, as often as it is more. */
export function added(before: readonly string[], after: readonly string[]): string[] {
  const left = [...before];
  return after.filter((name) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}
