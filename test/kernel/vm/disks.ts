/** A guest's disks: /dev/vda, /dev/vdb, ... in the order that they are given in. */
import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VmError } from './errors.js';

export interface DiskOptions {
  /** Bytes, or with a unit as in `512M`: a scratch disk, sparse, gone after the run. */
  size?: number | string;
  /** A raw image or device of the host instead. */
  path?: string;
  /** Logical block size; 512 by default. */
  blockSize?: 512 | 4096;
  readOnly?: boolean;
}

export type Disk = number | string | DiskOptions;

const UNITS: Record<string, number> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** `1G` is a size, `/path` or `./path` a file. */
export function diskOptions(disk: Disk): DiskOptions {
  if (typeof disk === 'number') return { size: disk };
  if (typeof disk === 'object') return disk;
  return /^\d+[KMGT]?$/.test(disk) ? { size: disk } : { path: disk };
}

function bytes(size: number | string): number {
  const match = /^(\d+)([KMGT]?)$/.exec(String(size));
  if (match === null) throw new VmError('rig', `${size} is no size of a disk: 512M, 1G, or bytes`);
  return Number(match[1]) * (UNITS[match[2]!] ?? 1);
}

/** Arguments for QEMU. */
export function diskArgs(disk: Disk, index: number, scratch: string): string[] {
  const { size, path, blockSize = 512, readOnly = false } = diskOptions(disk);
  if ((size === undefined) === (path === undefined)) {
    throw new VmError('rig', `disk ${index}: give either its size or its path`);
  }
  const file = path ?? join(scratch, `disk${index}`);
  if (size !== undefined) {
    writeFileSync(file, '');
    truncateSync(file, bytes(size));
  } else if (!existsSync(file)) {
    throw new VmError('rig', `disk ${index}: there is no ${file}`);
  }
  const cache = size === undefined ? 'writeback' : 'unsafe';
  return [
    '-drive',
    `file=${file},if=none,id=disk${index},format=raw,discard=unmap,cache=${cache},readonly=${readOnly ? 'on' : 'off'}`,
    '-device',
    `virtio-blk-pci,drive=disk${index},serial=disk${index},num-queues=1,` +
      `logical_block_size=${blockSize},physical_block_size=${blockSize}`,
  ];
}
