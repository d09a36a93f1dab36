/**
 * What `btrfs inspect-internal` says, taken strictly: what is not understood
 * throws. Only what names bytes is read; everything is checked against sums
 * that the file system keeps.
 */
import type { Extent } from '../../extent.js';

export interface BtrfsSuper {
  logRoot: number;
  bytesUsed: number;
  nodeSize: number;
  devices: number;
  deviceId: number;
  /** Of this device. */
  totalBytes: number;
  /** Bytes of this device that chunks own. */
  deviceUsed: number;
  incompat: number;
  compatRo: number;
}

/** Of `dump-super`. */
export function parseSuper(lines: Iterable<string>): BtrfsSuper {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const match = /^([a-z_.]+)\s+(\S.*)$/.exec(line);
    if (match !== null) fields.set(match[1]!, match[2]!);
  }
  if (!/\[match\]$/.test(fields.get('csum') ?? ''))
    throw new Error('the checksum of its superblock is wrong');
  const number = (name: string) => integer(fields.get(name), `btrfs dump-super shows no ${name}`);
  return {
    logRoot: number('log_root'),
    bytesUsed: number('bytes_used'),
    nodeSize: number('nodesize'),
    devices: number('num_devices'),
    deviceId: number('dev_item.devid'),
    totalBytes: number('dev_item.total_bytes'),
    deviceUsed: number('dev_item.bytes_used'),
    incompat: number('incompat_flags'),
    compatRo: number('compat_ro_flags'),
  };
}

function integer(text: string | undefined, complaint: string): number {
  const value = text !== undefined && /^(0x[0-9a-f]+|\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Error(complaint);
  return value;
}

/** A chunk: where its logical bytes are. */
export interface Chunk {
  logical: number;
  length: number;
  /** `DATA|single`, `SYSTEM|DUP` */
  type: string;
  /** Their number says whether all was read. */
  stripes: { device: number; offset: number }[];
  count: number;
}

const ITEM = /^\titem \d+ key \((\S+) (\S+) (\d+)\) itemoff \d+ itemsize \d+$/;
/** Of a tree that is more than one leaf deep: where the nodes below are. */
const LINK = /^\tkey \(\S+ \S+ \S+\) block \d+ gen \d+$/;
const OTHER_LINE =
  /^(btrfs-progs v|[a-z ]+ tree|(leaf|node) \d+ |fs uuid |chunk uuid |total bytes |bytes used |uuid )/;

/** An item's key, if the line is one; throws for a line that is nothing known. */
function keyOf(line: string): { object: string; kind: string; offset: string } | undefined {
  const match = ITEM.exec(line);
  if (match !== null) return { object: match[1]!, kind: match[2]!, offset: match[3]! };
  if (/^\t\t/.test(line) || LINK.test(line) || OTHER_LINE.test(line)) return undefined;
  throw new Error(`btrfs says ${JSON.stringify(line.slice(0, 80))}`);
}

/** Of a key whose offset counts bytes; others may hold a hash of 64 bits. */
function bytesOf(key: { offset: string }): number {
  return integer(key.offset, 'btrfs shows a key that is too large');
}

/** Reads `dump-tree -t chunk`. */
export class ChunkReader {
  readonly chunks: Chunk[] = [];
  #open: Chunk | undefined;

  line(text: string): void {
    const key = keyOf(text);
    if (key !== undefined) {
      this.#open = undefined;
      if (key.kind === 'DEV_ITEM') return;
      if (key.kind !== 'CHUNK_ITEM') throw new Error(`its chunk tree has a ${key.kind}`);
      this.#open = { logical: bytesOf(key), length: 0, type: '', stripes: [], count: 0 };
      this.chunks.push(this.#open);
      return;
    }
    if (this.#open === undefined) return;
    const head = /^\t\tlength (\d+) owner \d+ stripe_len \d+ type (\S+)$/.exec(text);
    const count = /^\t\tnum_stripes (\d+) sub_stripes \d+$/.exec(text);
    const stripe = /^\t\t\tstripe \d+ devid (\d+) offset (\d+)$/.exec(text);
    if (head !== null) {
      this.#open.length = Number(head[1]);
      this.#open.type = head[2]!;
    } else if (count !== null) this.#open.count = Number(count[1]);
    else if (stripe !== null) {
      this.#open.stripes.push({ device: Number(stripe[1]), offset: Number(stripe[2]) });
    }
  }
}

/** Reads `dump-tree -t dev`: what of each device belongs to chunks. */
export class DevExtentReader {
  readonly extents: (Extent & { device: number; chunk: number })[] = [];
  #open: (Extent & { device: number; chunk: number }) | undefined;

  line(text: string): void {
    const key = keyOf(text);
    if (key !== undefined) {
      this.#open = undefined;
      if (key.kind !== 'DEV_EXTENT') return;
      const device = integer(key.object, 'btrfs shows a device without a number');
      this.#open = { device, offset: bytesOf(key), length: 0, chunk: 0 };
      this.extents.push(this.#open);
      return;
    }
    const body = /^\t\tchunk_objectid \d+ chunk_offset (\d+) length (\d+)$/.exec(text);
    if (this.#open === undefined || body === null) return;
    this.#open.chunk = Number(body[1]);
    this.#open.length = Number(body[2]);
  }
}

/** Reads `dump-tree -t extent`: the logical bytes that are used. */
export class ExtentReader {
  readonly extents: Extent[] = [];
  /** By the block groups. */
  counted = 0;
  #group = false;

  constructor(readonly nodeSize: number) {}

  line(text: string): void {
    const key = keyOf(text);
    if (key === undefined) {
      const used = this.#group ? /^\t\tblock group used (\d+) /.exec(text) : null;
      if (used !== null) this.counted += Number(used[1]);
      return;
    }
    this.#group = key.kind === 'BLOCK_GROUP_ITEM';
    if (key.kind !== 'EXTENT_ITEM' && key.kind !== 'METADATA_ITEM') return;
    const offset = integer(key.object, 'btrfs shows an extent without an address');
    this.extents.push({ offset, length: key.kind === 'EXTENT_ITEM' ? bytesOf(key) : this.nodeSize });
  }
}
