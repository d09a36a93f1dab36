/**
 * Compiles the list of the blocks that the file systems of a device use. What
 * cannot be read with certainty is listed in full, and the log says so: a used
 * block that is left out is data loss, a free one that is copied costs time.
 */
import type { NativeRangeProbe } from '../../binding.js';
import { log } from '../../diagnostics.js';
import { type Extent, formatSize } from '../../extent.js';
import { BlockList } from '../block-list.js';
import { readBtrfs } from './btrfs.js';
import { readExt } from './ext.js';
import { readLvm } from './lvm.js';
import { type Partitioning, partitioning } from './partitions.js';
import type { MetadataSource } from './source.js';
import { usedOfSwap } from './swap.js';
import type { Reader, SourceRange, TellOptions, UsedPart, Verdict } from './verdict.js';
import { readXfs } from './xfs.js';

/** A compiled list, and how it came about. */
export interface UsedBlocks {
  /** In bytes of the device; from its beginning to its end. */
  list: BlockList;
  /** What was found, by its place. */
  parts: UsedPart[];
  /**
   * A machine hibernates on it, so all is listed: it goes on from its memory, which knows of blocks that its
   * file systems do not have as used yet. The same is true of all other disks of that machine.
   */
  hibernated: boolean;
}

const readSwap: Reader = async ({ source, offset, length }) => {
  return usedOfSwap(await source.read(offset, Math.min(65536, length)), length);
};

const READERS: Record<string, Reader> = {
  ext2: readExt,
  ext3: readExt,
  ext4: readExt,
  swap: readSwap,
  xfs: readXfs,
  btrfs: readBtrfs,
};

/** A swap space with the memory of a machine that hibernates, as libblkid calls it. */
const MEMORY = 'swsuspend';

/** Why what libblkid knows by another name is listed in full. */
const REASONS: Record<string, string> = {
  [MEMORY]: 'it holds the memory of a machine that hibernates',
  jbd: 'it is the journal of another file system',
};

/** A disk of a virtual machine on a logical volume in a partition. */
const MAX_DEPTH = 3;

/** The used blocks of a source; says in the log what was found. */
export async function usedBlocksOf(source: MetadataSource, options: TellOptions = {}): Promise<UsedBlocks> {
  const whole = { source, offset: 0, length: source.size };
  let found = await examine(whole, 0);
  const hibernated = found.parts.some(({ what }) => what === MEMORY);
  const unsteady = await source.unsteady();
  // what changed meanwhile may be anything
  const doubt = unsteady === undefined ? hibernated && hibernates('it') : `it ${unsteady}`;
  if (doubt) found = inFull(whole, found.parts[0]?.what ?? 'unknown', doubt);
  for (const part of found.parts) tell(source.name, part, options);
  return { list: BlockList.extents(found.used), parts: found.parts, hibernated };
}

/** Why nothing of a machine's disks is free while it hibernates. */
export function hibernates(where: string): string {
  return `a machine hibernates on ${where}, whose memory knows more than its file systems`;
}

/** All of it, and why. */
export function fullBlocks(
  { name, size }: Pick<MetadataSource, 'name' | 'size'>,
  reason: string,
  options: TellOptions = {},
  what = 'unknown',
): UsedBlocks {
  const part = { offset: 0, length: size, what, bytes: size, full: true, reason };
  tell(name, part, options);
  return { list: BlockList.all(size), parts: [part], hibernated: false };
}

/** In bytes of the source. */
interface Found {
  used: Extent[];
  parts: UsedPart[];
}

async function examine(range: SourceRange, depth: number): Promise<Found> {
  if (range.length === 0) return { used: [], parts: [] };
  let probe: NativeRangeProbe;
  try {
    probe = await range.source.probe(range.offset, range.length);
  } catch (error) {
    return inFull(range, 'unknown', `it cannot be read: ${(error as Error).message}`);
  }
  const { type, table, several } = probe;
  if (several || (type !== '' && table !== '')) {
    return inFull(range, 'unknown', 'it has the signatures of several kinds at once');
  }
  if (table !== '') {
    return await inside(range, `${table} partition table`, depth, async () =>
      partitioning(probe, range.length),
    );
  }
  if (type === '') return inFull(range, 'unknown', 'nothing on it is known');
  if (type === 'LVM2_member') return await inside(range, type, depth, () => readLvm(range));
  const reader = Object.hasOwn(READERS, type) ? READERS[type]! : undefined;
  if (reader === undefined)
    return inFull(range, type, REASONS[type] ?? `Snapbak does not know the free space of ${type}`);
  const verdict = await reader(range).catch((error: Error): Verdict => ({ doubt: error.message }));
  if ('doubt' in verdict) return inFull(range, type, verdict.doubt);
  const list = BlockList.extents(verdict.used);
  if (list.end > range.length) return inFull(range, type, 'it says that it uses more than there is');
  const part = { ...place(range), what: type, bytes: list.bytes, full: false };
  const used = Array.from(list, ({ offset, length }) => ({ offset: range.offset + offset, length }));
  return { used, parts: [verdict.note === undefined ? part : { ...part, note: verdict.note }] };
}

/** What holds parts of which each is looked at anew. */
async function inside(
  range: SourceRange,
  what: string,
  depth: number,
  read: () => Promise<Partitioning>,
): Promise<Found> {
  if (depth === MAX_DEPTH) return inFull(range, what, 'there are too many tables inside of tables');
  const found = await read().catch((error: Error): Partitioning => ({ doubt: error.message }));
  if ('doubt' in found) return inFull(range, what, found.doubt);
  const around = BlockList.extents(found.used);
  const used = Array.from(around, ({ offset, length }) => ({ offset: range.offset + offset, length }));
  const own = { ...place(range), what, bytes: around.bytes, full: false };
  const parts: UsedPart[] = [found.note === undefined ? own : { ...own, note: found.note }];
  for (const part of found.parts) {
    const inner = await examine(
      { ...part, offset: range.offset + part.offset, source: range.source },
      depth + 1,
    );
    used.push(...inner.used);
    parts.push(...inner.parts);
  }
  return { used, parts };
}

function inFull(range: SourceRange, what: string, reason: string): Found {
  const extent = place(range);
  return { used: [extent], parts: [{ ...extent, what, bytes: range.length, full: true, reason }] };
}

function place({ offset, length }: Extent): Extent {
  return { offset, length };
}

function tell(
  origin: string,
  { offset, length, what, bytes, full, reason, note }: UsedPart,
  { unasked = false }: TellOptions,
): void {
  const where = `${what} at ${offset}, ${formatSize(length)}`;
  const why = full
    ? `listed in full: ${reason}`
    : `${formatSize(bytes)} listed${note === undefined ? '' : `; ${note}`}`;
  // a disk without a file system is nothing to be warned of where nobody asked
  const level = full && !(unasked && what === 'unknown') ? 'warn' : 'info';
  log({ level, message: `${where}: ${why}`, origin });
}
