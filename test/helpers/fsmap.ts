/** What the kernel itself says of a mounted file system: its GETFSMAP, by xfs_io, which asks any file system for it. */
import { BlockList } from '../../lib/blocks/block-list.js';
import { must } from './programs.js';

/** FMR_OWN_FREE of linux/fsmap.h, as xfs_io prints it. */
const FREE = 'special_0:1';
const SECTOR = 512;

/** What is free there now; also while it is frozen. */
export async function freeByKernel(mountPoint: string): Promise<BlockList> {
  const [columns, ...rows] = (await must('xfs_io', ['-c', 'fsmap -m', mountPoint])).trim().split('\n');
  if (columns?.startsWith('EXT,MAJOR,MINOR,PSTART,PEND,OWNER,') !== true) {
    throw new Error(`xfs_io of ${mountPoint} says ${columns}`);
  }
  const free = rows
    .map((row) => row.split(','))
    .filter((fields) => fields[5] === FREE)
    .map((fields) => [Number(fields[3]), Number(fields[4])] as const);
  return BlockList.extents(
    free.map(([first, last]) => ({ offset: first * SECTOR, length: (last + 1 - first) * SECTOR })),
  );
}
