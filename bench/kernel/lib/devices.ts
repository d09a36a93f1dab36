/**
 * Block devices of the guest: null_blk disks, device-mapper devices on them, and what the kernel counts
 * of each. No udev runs there (the machine says so to libdevmapper), so `dmsetup` makes the nodes itself.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';

const NULL_BLK = '/sys/kernel/config/nullb';
export const SECTOR = 512;
export const MiB = 2 ** 20;

/** Runs a command of the guest's set-up to its end; gives what it printed. */
export function command(program: string, ...options: string[]): string {
  return execFileSync(program, options, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Loads what the benchmarks build their devices of; the driver under test is loaded already. */
export function prepareGuest(): void {
  // by name: the kernel's own calls of modprobe run in the initial root, which has none
  for (const module of ['dm-delay', 'dm-snapshot']) command('modprobe', module);
  command('modprobe', 'null_blk', 'nr_devices=0');
  if (!existsSync(NULL_BLK)) command('mount', '-t', 'configfs', 'none', '/sys/kernel/config');
}

export interface NullDiskOptions {
  bytes: number;
  /** `memory`: keeps what is written, page by page; `nothing`: writes vanish, reads leave the buffer as it is. */
  keeps: 'memory' | 'nothing';
}

/** A null_blk disk that completes each request as it is submitted; gives its path. */
export function nullDisk(name: string, { bytes, keeps }: NullDiskOptions): string {
  const folder = `${NULL_BLK}/${name}`;
  mkdirSync(folder);
  const attributes = {
    size: bytes / MiB,
    memory_backed: keeps === 'memory' ? 1 : 0,
    blocksize: 4096,
    irqmode: 0,
    no_sched: 1,
    power: 1,
  };
  for (const [attribute, value] of Object.entries(attributes)) {
    writeFileSync(`${folder}/${attribute}`, String(value));
  }
  return `/dev/${name}`;
}

/** Every page of a disk that keeps things is there after this, and is not allocated by what is measured. */
export function fill(device: string): void {
  command(
    'dd',
    'if=/dev/zero',
    `of=${device}`,
    'bs=1M',
    'oflag=direct',
    `count=${bytesOf(device) / MiB}`,
    'status=none',
  );
}

/** Creates a device-mapper device with one line over all of `lower`: "TARGET LOWER OFFSET ..."; gives its path. */
export function mapped(name: string, target: string, lower: string, ...rest: (string | number)[]): string {
  const table = [0, bytesOf(lower) / SECTOR, target, lower, ...rest].join(' ');
  command('dmsetup', 'create', name, '--table', table);
  return `/dev/mapper/${name}`;
}

/** Removes device-mapper devices, the last named first. */
export function unmap(...paths: string[]): void {
  for (const path of paths.reverse()) command('dmsetup', 'remove', path);
}

/** The directory of a device in sysfs. */
function sysfs(device: string): string {
  const { rdev } = statSync(device);
  // glibc's encoding of a device number, below 2^32
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return `/sys/dev/block/${major}:${minor}`;
}

export function bytesOf(device: string): number {
  return Number(readFileSync(`${sysfs(device)}/size`, 'utf8')) * SECTOR;
}

/** What the kernel has counted of a device since it is there; see `Documentation/block/stat.rst`. */
export interface DeviceCounts {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
}

export function countsOf(device: string): DeviceCounts {
  const fields = readFileSync(`${sysfs(device)}/stat`, 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number);
  const [reads = 0, , readSectors = 0, , writes = 0, , writtenSectors = 0] = fields;
  return { reads, readBytes: readSectors * SECTOR, writes, writtenBytes: writtenSectors * SECTOR };
}
