/**
 * What this machine says about mounts and block devices (/proc, /sys). Only
 * facts; `placement.ts` judges them. Everything is read anew each time: mounts
 * come and go.
 */
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** A mounted file system. */
export interface Mount {
  mountPoint: string;
  /** `MAJOR:MINOR` as the file system gives it; 0 for a major where it has no device of its own. */
  device: string;
  /** `ext4`, `tmpfs`, `fuse.nbdfuse`, … */
  fsType: string;
  /** What was mounted, e.g. `/dev/sda1`. */
  source: string;
  /** `KEY=VALUE` options of the file system, e.g. `upperdir=/x` of an overlay. */
  options: string[];
}

/** A block device, and what it stands on. */
export interface BlockDevice {
  /** `MAJOR:MINOR` */
  number: string;
  /** The kernel's name, e.g. `sda1`. */
  name: string;
  /** Bytes. */
  size: number;
  readOnly: boolean;
  /** Device numbers of the disk (of a partition) and of the parts (of RAID, LVM, …). */
  below: string[];
  /** The file under a loop device. */
  backingFile?: string;
}

/** Which file it is, however it is called. */
export interface Identity {
  /** `MAJOR:MINOR` of the file system. */
  fileSystem: string;
  inode: number;
  /** Bytes of a file; means nothing for a device. */
  size: number;
  /** `MAJOR:MINOR` that it stands for, if it is a block device. */
  blockDevice?: string;
}

/** What was asked of a device since it is there. */
export interface RequestTotals {
  /** Requests that were completed. */
  requests: number;
  /** Their time, summed, milliseconds. */
  ms: number;
}

/** Where facts come from; tests have one of their own. */
export interface Host {
  /** All that is mounted, in the order in which it was. */
  mounts(): Promise<Mount[]>;
  /** The mount that holds a path, which need not be accessible; undefined if nobody knows. */
  mountOf(path: string): Promise<Mount | undefined>;
  /** Undefined if there is none of that number. */
  blockDevice(number: string): Promise<BlockDevice | undefined>;
  /** What was asked of a device so far; undefined if there is none of that number. */
  requestTotals(number: string): Promise<RequestTotals | undefined>;
  /** All devices of the mounted btrfs that a device is part of; none for any other device. */
  btrfsDevices(number: string): Promise<string[]>;
  /** Undefined if it is not there or may not be seen. */
  identify(path: string): Promise<Identity | undefined>;
}

/** `MAJOR:MINOR` of a device number as stat() gives it. */
export function deviceNumber(dev: number | bigint): string {
  const bits = BigInt(dev);
  const major = ((bits >> 8n) & 0xfffn) | ((bits >> 32n) & ~0xfffn);
  const minor = (bits & 0xffn) | ((bits >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The device number of `MAJOR:MINOR` as stat() gives it. */
export function deviceId(number: string): number {
  const [major = 0n, minor = 0n] = number.split(':').map(BigInt);
  const bits =
    ((major & 0xfffn) << 8n) | ((major & ~0xfffn) << 32n) | (minor & 0xffn) | ((minor & ~0xffn) << 12n);
  return Number(bits);
}

/** This machine. */
export const thisHost: Host = hostAt('/proc/self/mountinfo', '/sys/dev/block');

/** A host whose facts lie in these places. */
export function hostAt(mountinfo: string, sysDevBlock: string, sysFsBtrfs = '/sys/fs/btrfs'): Host {
  const mounts = async () => parseMountinfo(await readFile(mountinfo, 'utf8'));
  return {
    mounts,
    async mountOf(path) {
      const real = await realpath(path).catch(() => path);
      const identity = await identify(real);
      const holders = (await mounts()).filter((mount) => holds(mount, real));
      // later mounts hide earlier ones; a deeper one may itself be hidden, which the device number tells
      const seen = holders.filter((mount) => mount.device === identity?.fileSystem);
      return (seen.length > 0 ? seen : holders).reduce<Mount | undefined>(
        (best, mount) =>
          best === undefined || mount.mountPoint.length >= best.mountPoint.length ? mount : best,
        undefined,
      );
    },
    blockDevice: (number) => readBlockDevice(sysDevBlock, number),
    async requestTotals(number) {
      const text = await readFile(join(sysDevBlock, number, 'stat'), 'utf8').catch(() => undefined);
      return text === undefined ? undefined : parseDiskStat(text);
    },
    async btrfsDevices(number) {
      for (const uuid of await names(sysFsBtrfs)) {
        const devices = await numbersIn(join(sysFsBtrfs, uuid, 'devices'));
        if (devices.includes(number)) return devices;
      }
      return [];
    },
    identify,
  };
}

function holds({ mountPoint }: Mount, path: string): boolean {
  return mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
}

async function identify(path: string): Promise<Identity | undefined> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  if (stats === undefined) return undefined;
  const identity: Identity = {
    fileSystem: deviceNumber(stats.dev),
    inode: Number(stats.ino),
    size: Number(stats.size),
  };
  if (stats.isBlockDevice()) identity.blockDevice = deviceNumber(stats.rdev);
  return identity;
}

/** The mounts of a mountinfo file, in the order in which they were made; see proc(5). */
export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    if (left === undefined || right === undefined) continue;
    const fields = left.split(' ').map(unescapeOctal);
    const [fsType = '', source = '', options = ''] = right.split(' ').map(unescapeOctal);
    mounts.push({
      device: fields[2] ?? '',
      mountPoint: fields[4] ?? '',
      fsType,
      source,
      options: options.split(','),
    });
  }
  return mounts;
}

/** Reads, writes and discards in `/sys/block/DEVICE/stat`; see Documentation/block/stat.rst of Linux. */
export function parseDiskStat(text: string): RequestTotals {
  const fields = text.trim().split(/\s+/).map(Number);
  const of = (...columns: number[]) => columns.reduce((sum, column) => sum + (fields[column] ?? 0), 0);
  return { requests: of(0, 4, 11), ms: of(3, 7, 14) };
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

async function readBlockDevice(sysDevBlock: string, number: string): Promise<BlockDevice | undefined> {
  const directory = await realpath(join(sysDevBlock, number)).catch(() => undefined);
  if (directory === undefined) return undefined;
  const read = (name: string) => readFile(join(directory, name), 'utf8').then((text) => text.trimEnd());
  const sectors = Number(await read('size').catch(() => 0)); // of 512 bytes, whatever the device's are
  const readOnly = (await read('ro').catch(() => '0')) === '1';
  const device: BlockDevice = { number, name: basename(directory), size: 512 * sectors, readOnly, below: [] };
  const isPartition = (await read('partition').catch(() => undefined)) !== undefined;
  if (isPartition) {
    device.below.push((await readFile(join(dirname(directory), 'dev'), 'utf8')).trim());
  }
  device.below.push(...(await numbersIn(join(directory, 'slaves'))));
  const backingFile = await read('loop/backing_file').catch(() => undefined);
  if (backingFile !== undefined) device.backingFile = backingFile;
  return device;
}

function names(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

/** The device numbers of a directory of links to devices. */
async function numbersIn(directory: string): Promise<string[]> {
  const numbers: string[] = [];
  for (const name of await names(directory)) {
    const number = await readFile(join(directory, name, 'dev'), 'utf8').catch(() => undefined);
    if (number !== undefined) numbers.push(number.trimEnd());
  }
  return numbers;
}
