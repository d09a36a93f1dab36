/**
 * The blocks that an xfs uses: all but those that its free space B-trees name.
 * Read by xfs_db, which only reads; believed only where the log has nothing to
 * replay but superblocks, and where the runs of every allocation group add up to
 * what its header counts.
 *
 * Why a log of superblocks is enough: its tail goes on only when metadata has
 * reached its place. So what is not in the log between tail and head is in its
 * place, whole, and a mount that recovers the log changes nothing that the list
 * comes from. A freeze leaves it so, with a superblock or two behind the tail, for
 * the kernel wants to look for unlinked files at the next mount: what it frees then
 * is listed. A superblock that grows the file system adds groups behind its end,
 * where everything is listed.
 *
 * The blocks of the free list (AGFL) are free for xfs_db, but
 * the file system's own: they stay listed, and so does the log.
 */
import type { Extent } from '../../extent.js';
import { withPath } from './range-path.js';
import { linesOf, type RunTool, runTool } from './tool.js';
import type { Reader, Verdict } from './verdict.js';
import { type Fields, LogReader, numberOf, parseFreeRun, parseStructures } from './xfs-text.js';

/** ftype, sparse inodes, meta_uuid, big timestamps, 64-bit extent counts, exchange-range, parent pointers. */
const KNOWN_INCOMPAT = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80;
/** finobt, rmapbt, reflink, inode counts. */
const KNOWN_RO_COMPAT = 0x01 | 0x02 | 0x04 | 0x08;
const NEEDS_REPAIR = 0x10;

export const readXfs: Reader = (range) => withPath(range, (path) => usedOfXfs(path, range.length));

/** @param length bytes of the device */
export async function usedOfXfs(path: string, length: number, run: RunTool = runTool): Promise<Verdict> {
  const [superblock] = parseStructures(
    await linesOf(run, 'xfs_db', ['-r', '-c', 'sb 0', '-c', 'print', path]),
  );
  if (superblock === undefined) return { doubt: 'xfs_db shows no superblock' };
  const layout = layoutOf(superblock, length);
  if (typeof layout === 'string') return { doubt: layout };
  const log = new LogReader(numberOf(superblock, 'sectsize'));
  await run('xfs_logprint', ['-t', path], (line) => log.line(line));
  if (!log.settled) {
    return { doubt: 'its log is dirty: freeze it, unmount it, or let a mount replay the log' };
  }
  const groups = await readGroups(path, layout, run);
  await countFree(path, layout, groups, run);
  return merge(layout, groups, length);
}

interface Layout {
  blockSize: number;
  blocks: number;
  groupBlocks: number;
  groups: number;
}

/** Or why it is not one that this can read. */
function layoutOf(fields: Fields, length: number): Layout | string {
  const layout = {
    blockSize: numberOf(fields, 'blocksize'),
    blocks: numberOf(fields, 'dblocks'),
    groupBlocks: numberOf(fields, 'agblocks'),
    groups: numberOf(fields, 'agcount'),
  };
  if (numberOf(fields, 'inprogress') !== 0) return 'mkfs or growfs was interrupted on it';
  if (numberOf(fields, 'logstart') === 0) return 'its log is on another device';
  if (numberOf(fields, 'rblocks') !== 0 || numberOf(fields, 'rextents') !== 0)
    return 'it has a real-time device';
  const version = numberOf(fields, 'versionnum') & 0xf;
  if (version !== 4 && version !== 5) return 'it has a version that Snapbak does not know';
  if (version === 5) {
    const incompat = numberOf(fields, 'features_incompat');
    if ((incompat & NEEDS_REPAIR) !== 0) return 'it has to be repaired: run xfs_repair';
    const unknown =
      (incompat & ~KNOWN_INCOMPAT) | (numberOf(fields, 'features_ro_compat') & ~KNOWN_RO_COMPAT);
    if (unknown !== 0) return 'it has features that Snapbak does not know';
  }
  const { blocks, groupBlocks, groups, blockSize } = layout;
  if (groups < 1 || blocks <= (groups - 1) * groupBlocks || blocks > groups * groupBlocks) {
    return 'its groups do not add up';
  }
  return blocks * blockSize > length ? 'it is larger than its device' : layout;
}

interface Group {
  freeBlocks: number;
  /** Blocks of the free list. */
  reserve: Set<number>;
  /** Runs, in blocks of the group. */
  free: Extent[];
}

/** The headers of all allocation groups; some hundred a call, for the command line has an end. */
async function readGroups(path: string, layout: Layout, run: RunTool): Promise<Group[]> {
  const groups: Group[] = [];
  for (let first = 0; first < layout.groups; first += 256) {
    const args: string[] = [];
    for (let group = first; group < Math.min(first + 256, layout.groups); group++) {
      args.push('-c', `agf ${group}`, '-c', 'print', '-c', `agfl ${group}`, '-c', 'print');
    }
    const structures = agStructures(await linesOf(run, 'xfs_db', ['-r', ...args, path]));
    for (const [agf, agfl] of structures) groups.push(groupOf(agf, agfl));
  }
  if (groups.length !== layout.groups) throw new Error('xfs_db does not show all allocation groups');
  return groups;
}

/** The AGFL of a file system of version 4 has no magic number: it is one line. */
function agStructures(lines: string[]): [Fields, string][] {
  const pairs: [Fields, string][] = [];
  const lists = lines.filter((line) => line.startsWith('bno['));
  const headers = parseStructures(lines.filter((line) => !line.startsWith('bno['))).filter((fields) =>
    fields.has('freeblks'),
  );
  if (headers.length !== lists.length) throw new Error('xfs_db shows not as many free lists as groups');
  for (const [i, header] of headers.entries()) pairs.push([header, lists[i]!]);
  return pairs;
}

function groupOf(agf: Fields, list: string): Group {
  const entries = Array.from(list.matchAll(/ (\d+):(\d+|null)/g), ([, , block]) => block!);
  const count = numberOf(agf, 'flcount');
  const reserve = new Set<number>();
  for (let i = 0, at = numberOf(agf, 'flfirst'); i < count; i++, at = (at + 1) % entries.length) {
    const block = entries[at];
    if (block === undefined || block === 'null') throw new Error('its free list has holes');
    reserve.add(Number(block));
  }
  return { freeBlocks: numberOf(agf, 'freeblks'), reserve, free: [] };
}

/** Fills in the free runs. */
async function countFree(path: string, layout: Layout, groups: Group[], run: RunTool): Promise<void> {
  await run('xfs_db', ['-r', '-c', 'freesp -d', path], (line) => {
    const found = parseFreeRun(line);
    if (found === undefined) return;
    const group = groups[found.group];
    if (group === undefined || found.block + found.blocks > layout.groupBlocks || found.blocks === 0) {
      throw new Error('xfs_db shows free space outside of it');
    }
    if (found.blocks === 1 && group.reserve.has(found.block)) return;
    group.free.push({ offset: found.block, length: found.blocks });
  });
}

/** What is between the free runs. */
function merge({ blockSize, blocks, groupBlocks }: Layout, groups: Group[], length: number): Verdict {
  const used: Extent[] = [];
  let end = 0; // blocks of the device: used up to the next free run
  for (const [number, group] of groups.entries()) {
    const free = group.free.sort((a, b) => a.offset - b.offset);
    const sum = free.reduce((bytes, run) => bytes + run.length, 0);
    if (sum !== group.freeBlocks) return { doubt: `its group ${number} counts another amount of free space` };
    for (const run of free) {
      const at = number * groupBlocks + run.offset;
      if (at < end || at + run.length > blocks) return { doubt: 'its free space overlaps' };
      if (at > end) used.push({ offset: end * blockSize, length: (at - end) * blockSize });
      end = at + run.length;
    }
  }
  if (end * blockSize < length) used.push({ offset: end * blockSize, length: length - end * blockSize });
  return { used };
}
