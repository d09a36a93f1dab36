/**
 * The bytes that a btrfs uses, by `btrfs inspect-internal`, which only reads.
 * All that a btrfs refers to hangs on its superblock, which is written last, so
 * the trees of any instant are whole, mounted or not; but for the log tree of
 * fsync, which allocates without the extent tree. Where the addresses cannot be
 * followed for certain (RAID, a log tree) the chunks of the device are listed as a
 * whole, and what no chunk owns is left out still. One of several devices is
 * listed in full: its trees may be on the others, of which only the present is there.
 */
import type { Extent } from '../../extent.js';
import {
  type BtrfsSuper,
  type Chunk,
  ChunkReader,
  DevExtentReader,
  ExtentReader,
  parseSuper,
} from './btrfs-text.js';
import { withPath } from './range-path.js';
import { linesOf, type RunTool, runTool } from './tool.js';
import type { Reader, Verdict } from './verdict.js';

/** Before the first chunk: boot loaders, and the first superblock. */
const HEAD = 2 ** 20;
const SUPER_COPIES = [65536, 64 * 2 ** 20, 256 * 2 ** 30];
const SUPER_BYTES = 4096;
/** All up to simple quotas (0x10000) but zoned devices, the second extent tree, stripe trees. */
const KNOWN_INCOMPAT = 0x10fff;
/** free-space tree, its validity, verity, block-group tree. */
const KNOWN_COMPAT_RO = 0xf;
const BLOCK_GROUP_TREE = 0x8;

export const readBtrfs: Reader = (range) => withPath(range, (path) => usedOfBtrfs(path, range.length));

/** @param length bytes of the device */
export async function usedOfBtrfs(path: string, length: number, run: RunTool = runTool): Promise<Verdict> {
  const dump = async (tree: string, line: (text: string) => void) =>
    await run('btrfs', ['inspect-internal', 'dump-tree', '--noscan', '-t', tree, path], line);
  const superblock = parseSuper(await linesOf(run, 'btrfs', ['inspect-internal', 'dump-super', path]));
  const strange = strangeness(superblock, length);
  if (strange !== undefined) return { doubt: strange };
  if (superblock.devices !== 1) return { doubt: 'it has several devices' };
  const devices = new DevExtentReader();
  await dump('dev', (text) => devices.line(text));
  const own = devices.extents.filter(({ device }) => device === superblock.deviceId);
  if (
    own.length === 0 ||
    own.some((extent) => extent.length === 0 || extent.offset + extent.length > length)
  ) {
    return { doubt: 'its device tree is not understood' };
  }
  // what cannot be read of a tree is passed over
  if (own.reduce((bytes, extent) => bytes + extent.length, 0) !== superblock.deviceUsed) {
    return { doubt: 'its device tree does not add up to what it counts as used' };
  }
  const around = surroundings(superblock, length);
  const inFull = (note: string): Verdict => ({
    used: [...around, ...own],
    note: `its chunks are listed as a whole: ${note}`,
  });
  if (superblock.logRoot !== 0) return inFull('it has a log tree, of an fsync since the last commit');
  const chunks = new ChunkReader();
  await dump('chunk', (text) => chunks.line(text));
  const raid = chunks.chunks.find(({ type }) => !/^[A-Z|]+\|(single|DUP)$/.test(type));
  if (raid !== undefined) return inFull(`it has chunks of the kind ${raid.type}`);
  const wrong = mismatch(chunks.chunks, own, superblock.deviceId);
  if (wrong !== undefined) return inFull(wrong);
  const extents = new ExtentReader(superblock.nodeSize);
  await dump('extent', (text) => extents.line(text));
  const sum = extents.extents.reduce((bytes, extent) => bytes + extent.length, 0);
  const groupTree = (superblock.compatRo & BLOCK_GROUP_TREE) !== 0; // the groups are not in this tree
  if (sum !== superblock.bytesUsed || (!groupTree && sum !== extents.counted)) {
    return inFull('its extents do not add up to what it counts as used');
  }
  const mapped = physical(extents.extents, chunks.chunks);
  return mapped === undefined
    ? inFull('it has extents outside of its chunks')
    : { used: [...around, ...mapped] };
}

function strangeness({ incompat, compatRo, totalBytes }: BtrfsSuper, length: number): string | undefined {
  if ((incompat & ~KNOWN_INCOMPAT) !== 0 || (compatRo & ~KNOWN_COMPAT_RO) !== 0) {
    return 'it has features that Snapbak does not know';
  }
  return totalBytes > length ? 'it is larger than its device' : undefined;
}

/** What is kept besides chunks. */
function surroundings({ totalBytes }: BtrfsSuper, length: number): Extent[] {
  const around = [{ offset: 0, length: Math.min(HEAD, length) }];
  for (const offset of SUPER_COPIES) {
    if (offset + SUPER_BYTES <= length) around.push({ offset, length: SUPER_BYTES });
  }
  if (totalBytes < length) around.push({ offset: totalBytes, length: length - totalBytes });
  return around;
}

/** Why the chunks are not those of the device tree. */
function mismatch(
  chunks: Chunk[],
  own: (Extent & { chunk: number })[],
  deviceId: number,
): string | undefined {
  const key = (chunk: number, offset: number, length: number) => `${chunk} ${offset} ${length}`;
  const expected = new Set(own.map(({ chunk, offset, length }) => key(chunk, offset, length)));
  let stripes = 0;
  for (const chunk of chunks) {
    const copies = chunk.type.endsWith('|DUP') ? 2 : 1;
    if (chunk.length === 0 || chunk.count !== copies || chunk.stripes.length !== copies) {
      return 'a chunk is not understood';
    }
    for (const { device, offset } of chunk.stripes) {
      if (device !== deviceId || !expected.has(key(chunk.logical, offset, chunk.length))) {
        return 'its chunk tree and its device tree differ';
      }
      stripes++;
    }
  }
  return stripes === own.length ? undefined : 'its chunk tree and its device tree differ';
}

/** Where the extents are on the device, every copy of them; undefined if a chunk is missing. */
function physical(extents: Extent[], chunks: Chunk[]): Extent[] | undefined {
  const sorted = [...chunks].sort((a, b) => a.logical - b.logical);
  const mapped: Extent[] = [];
  let at = 0;
  for (const { offset, length } of [...extents].sort((a, b) => a.offset - b.offset)) {
    while (at < sorted.length && sorted[at]!.logical + sorted[at]!.length <= offset) at++;
    const chunk = sorted[at];
    if (chunk === undefined || offset < chunk.logical) return undefined;
    if (offset + length > chunk.logical + chunk.length) return undefined;
    for (const stripe of chunk.stripes) {
      mapped.push({ offset: stripe.offset + offset - chunk.logical, length });
    }
  }
  return mapped;
}
