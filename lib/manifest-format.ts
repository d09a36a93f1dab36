/**
 * What `manifest.json` says: types, names, and how it is written. What must be
 * true of them is in manifest-schema.
 */

/** The format of a backup of one origin, and that of a backup of several. */
export const FORMAT_VERSION = 1;
export const GROUP_FORMAT_VERSION = 2;

/** What `tool.name` says in our manifests. */
export const TOOL_NAME = 'snapbak';

/**
 * A longer one is neither written nor read. These are some ten million extents,
 * which take about a gigabyte when they are parsed; no string in Node is twice
 * as long.
 */
export const MAX_MANIFEST_BYTES = 256 * 2 ** 20;

/** Offset and length in bytes. */
export type ExtentPair = [offset: number, length: number];

/**
 * What a backup's `manifest.json` says. Offsets, lengths and sizes are bytes,
 * times are ISO 8601 in UTC.
 */
export interface Manifest {
  /** 1 */
  formatVersion: 1;
  tool: { name: 'snapbak'; version: string };
  /** A UUID. */
  id: string;
  /** Only the first two are good backups. */
  state: 'complete' | 'complete-with-invalid-blocks' | 'broken';
  /** When the backup was asked for. */
  createdAt: string;
  /** The point in time: the image is the origin as it stood then. */
  startedAt: string;
  finishedAt: string;
  origin: { driver: 'kernel' | 'user' | 'embedded'; id: string; size: number };
  size: number;
  blockSize: number;
  /** Where the image is: in the directory, on a device, or wherever a target written in JavaScript put it. */
  image: { kind: 'file'; name: string } | { kind: 'device'; path: string; offset: 0 } | { kind: 'custom' };
  /** One little-endian CRC32C a block; 0 for blocks that are not listed. */
  checksums: { name: string; algorithm: 'crc32c'; sha256: string };
  /** The block list: ascending, disjoint, whole blocks (the last may be cut by the end). */
  blocks: ExtentPair[];
  /** Listed blocks that could not be read from the origin. */
  invalidBlocks: ExtentPair[];
  statistics: Record<string, number>;
  /** Why it is broken. */
  error?: { code: string; message: string } | undefined;
}

/** A manifest but for what the target adds. */
export type ManifestDraft = Omit<Manifest, 'formatVersion' | 'tool' | 'image' | 'checksums'>;

/** The part of one origin in a backup of several; its fields are those of {@link Manifest}. */
export interface DiskManifest
  extends Pick<
    Manifest,
    'state' | 'origin' | 'size' | 'blockSize' | 'image' | 'blocks' | 'invalidBlocks' | 'statistics' | 'error'
  > {
  /** What it is called; unique in the backup. */
  name: string;
  /** Of a disk that broke, the digest is all zeroes where the file could not be read. */
  checksums: Manifest['checksums'];
}

/** What `manifest.json` says of a backup of several origins. All of them are as of one instant. */
export interface GroupManifest
  extends Pick<Manifest, 'tool' | 'id' | 'createdAt' | 'startedAt' | 'finishedAt' | 'error'> {
  /** 2 */
  formatVersion: 2;
  /** `broken` if the part of any disk is; the others can be restored all the same, by name. */
  state: Manifest['state'];
  disks: DiskManifest[];
}

/** A manifest of several origins but for what the target adds. */
export type GroupDraft = Pick<GroupManifest, 'id' | 'createdAt' | 'startedAt' | 'finishedAt' | 'error'>;

/** Bytes of the file of checksums: one CRC32C a block. */
export function checksumsSize(size: number, blockSize: number): number {
  return 4 * Math.ceil(size / blockSize);
}

/** A manifest as the file has it; undefined if that is longer than `maxBytes`. */
export function manifestText(manifest: Manifest | GroupManifest, maxBytes: number): string | undefined {
  try {
    const text = `${formatFields(manifest, '')}\n`;
    return Buffer.byteLength(text) > maxBytes ? undefined : text;
  } catch (error) {
    if (error instanceof RangeError) return undefined; // longer than any string
    throw error;
  }
}

/** JSON with a line a field, but extents without line breaks: there may be millions. */
function formatFields(fields: object, indent: string): string {
  const inner = `${indent}  `;
  const lines = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => {
      const flat = key === 'blocks' || key === 'invalidBlocks';
      const text = flat
        ? JSON.stringify(value)
        : key === 'disks'
          ? `[${(value as object[]).map((disk) => formatFields(disk, inner)).join(', ')}]`
          : JSON.stringify(value, null, 2).replaceAll('\n', `\n${inner}`);
      return `${inner}${JSON.stringify(key)}: ${text}`;
    });
  return `{\n${lines.join(',\n')}\n${indent}}`;
}
