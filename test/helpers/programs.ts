/** Runs the real programs of the scenarios, and says loudly what is missing. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface Result {
  /** Exit status; null when a signal ended it. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Ended with SIGKILL after this long; 120,000 by default. */
  timeoutMs?: number;
}

const PACKAGE_OF: Record<string, string> = {
  nbdkit: 'nbdkit',
  nbdfuse: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  nbdinfo: 'libnbd-bin',
  fusermount3: 'fuse3',
  losetup: 'mount',
  mount: 'mount',
  umount: 'mount',
  fsfreeze: 'util-linux',
  'mkfs.ext4': 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'mkfs.btrfs': 'btrfs-progs',
  btrfs: 'btrfs-progs',
  sfdisk: 'fdisk',
  mkswap: 'util-linux',
  'mkfs.xfs': 'xfsprogs',
  xfs_repair: 'xfsprogs',
  'qemu-io': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  fio: 'fio',
};

function find(program: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).concat('/usr/sbin', '/sbin');
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

/** Fails with the names of the packages when a program is not there. */
export function needPrograms(...programs: string[]): void {
  const missing = programs.filter((program) => find(program) === undefined);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => PACKAGE_OF[program] ?? program))];
  throw new Error(`missing: ${missing.join(', ')}; to get them: apt-get install ${packages.join(' ')}`);
}

/** Fails, and says why, where loop devices and mounting are not to be had. */
export function needMounts(): void {
  const missing: string[] = [];
  if (process.getuid?.() !== 0) missing.push('root (loop devices and mounts need it)');
  if (!existsSync('/dev/loop-control')) missing.push('/dev/loop-control (modprobe loop)');
  if (!existsSync('/dev/fuse')) missing.push('/dev/fuse (modprobe fuse)');
  if (missing.length > 0) throw new Error(`this test needs ${missing.join(', ')}`);
}

/**
 * Starts a program in a process group of its own, so that a Ctrl-C at the
 * terminal reaches us alone, and we end things in order.
 */
export function start(program: string, args: string[], options: RunOptions = {}): ChildProcess {
  return spawn(find(program) ?? program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
}

/** The end of a child, with what it said until then. */
export function ended(child: ChildProcess): Promise<Result> {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Runs a program to its end, whatever its exit status. */
export async function run(program: string, args: string[], options: RunOptions = {}): Promise<Result> {
  const child = start(program, args, options);
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 120_000);
  try {
    return await ended(child);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a program that must succeed; gives its standard output. */
export async function must(program: string, args: string[], options: RunOptions = {}): Promise<string> {
  const result = await run(program, args, options);
  if (result.code === 0) return result.stdout;
  throw new Error(
    `${program} ${args.join(' ')}: ${result.signal ?? `exit status ${result.code}`}\n${result.stdout}${result.stderr}`,
  );
}

/** Looks again and again until `look` gives something, at most `timeoutMs`. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  timeoutMs = 30_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found as NonNullable<T>;
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
