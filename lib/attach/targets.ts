/**
 * Which devices may be attached, by the device-mapper targets in their tables.
 * While a device is attached its table is live on the lower device, and for the
 * moment of the exchange on both: that only goes well with targets that keep
 * nothing but what the table says.
 */
import { show } from '../extent.js';

/** The target of the kernel driver. */
export const TARGET = 'snapbak';

/** They map, and remember nothing. */
const STATELESS = new Set([
  'linear',
  'striped',
  'unstriped',
  'crypt',
  'thin',
  'delay',
  'flakey',
  'error',
  'zero',
]);

const ABOVE =
  'attach the device above it that is mounted (an LVM volume, LUKS); or unmount it and put Snapbak above it: ' +
  '"snapbak attach --create NAME DEVICE", then mount /dev/mapper/NAME';

/** Why not, and what instead. */
const REFUSED: Record<string, readonly [why: string, instead: string]> = {
  raid: ['it keeps a record of which copies are in step, which two tables would spoil', ABOVE],
  mirror: ['it keeps a record of which copies are in step, which two tables would spoil', ABOVE],
  cache: ['it keeps a cache and its metadata, which two tables would spoil', ABOVE],
  writecache: ['it keeps a cache and its metadata, which two tables would spoil', ABOVE],
  writeboost: ['it keeps a cache and its metadata, which two tables would spoil', ABOVE],
  clone: ['it keeps metadata, which two tables would spoil', ABOVE],
  era: ['it keeps metadata, which two tables would spoil', ABOVE],
  integrity: ['it keeps a journal, which two tables would spoil', ABOVE],
  vdo: ['it keeps metadata, which two tables would spoil', ABOVE],
  'log-writes': ['it keeps a log, which two tables would spoil', ABOVE],
  'thin-pool': ['it keeps metadata, which two tables would spoil', 'attach the thin volumes on it'],
  snapshot: ['it keeps the blocks of a snapshot, which two tables would spoil', ABOVE],
  'snapshot-merge': ['a snapshot is being merged into it', 'wait for its end'],
  'snapshot-origin': [
    'it has snapshots, which would no longer see its writes',
    'attach the device beneath it (of an LVM volume: /dev/mapper/NAME-real)',
  ],
  multipath: [
    'the kernel does not exchange its table for one of another kind',
    'attach the LVM volume or the partition on it',
  ],
  verity: ['it never changes', 'copy it by any tool'],
  dust: ['its list of bad blocks is not in its table and would be lost', ABOVE],
};

/** Why a device with this target in its table is not attached, and what to do; undefined: it may be. */
export function refusalOf(type: string): string | undefined {
  if (STATELESS.has(type)) return undefined;
  const known = Object.hasOwn(REFUSED, type) ? REFUSED[type] : undefined;
  const [why, instead] = known ?? ['nobody has looked yet whether it would bear it', ABOVE];
  return `its table has the target ${show(type)}: ${why}; ${instead}`;
}
