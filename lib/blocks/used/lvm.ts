/**
 * A physical volume of LVM, by `pvck --dump`, which only reads: its label and
 * metadata areas are kept, and the extents that logical volumes have; free
 * extents are left out. Of the volumes, those that are one piece of this disk
 * alone, and on which no other volume hangs, are looked into: the disk under a
 * snapshot, a pool or a mirror is not what a file system on it says of itself.
 *
 * What is allocated is in the committed metadata before it is used, and is out of
 * use before it leaves them. A metadata area that LVM was told to ignore is not
 * kept up to date, and not believed.
 */
import type { Extent } from '../../extent.js';
import { type LvmSection, lvmList, lvmNumber, lvmStrings, parseLvm } from './lvm-text.js';
import type { Partitioning } from './partitions.js';
import { withPath } from './range-path.js';
import { linesOf, type RunTool, runTool } from './tool.js';
import type { SourceRange } from './verdict.js';

/** Of what LVM counts in. */
const SECTOR = 512;
/** The administrator's filters are for devices in use. */
const CONFIG = 'devices { use_devicesfile=0 filter=["a|.*|"] global_filter=["a|.*|"] }';

export function readLvm(range: SourceRange): Promise<Partitioning> {
  return withPath(range, (path) => physicalVolume(path, range.length));
}

/** @param length bytes of the device */
export async function physicalVolume(
  path: string,
  length: number,
  run: RunTool = runTool,
): Promise<Partitioning> {
  const dump = (what: string) => linesOf(run, 'pvck', ['--config', CONFIG, '--dump', what, path]);
  const headers = parseHeaders(await dump('headers'));
  if (typeof headers === 'string') return { doubt: headers };
  const text = metadataOf(await dump('metadata'), headers.checksum);
  if (text === undefined) return { doubt: 'its metadata are not those that its header points to' };
  const [group, ...others] = parseLvm(text).sections.values();
  if (group === undefined || others.length > 0) return { doubt: 'its metadata are not of one volume group' };
  return allocated(group, headers.id, length);
}

interface Headers {
  /** Of the physical volume, without dashes. */
  id: string;
  /** Of the metadata. */
  checksum: string;
}

/** Or why they are not believed. */
function parseHeaders(lines: string[]): Headers | string {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const match = /^\s+([a-z_]+[a-z0-9_]*\.[a-z_.0-9[\]]+) (\S.*)$/.exec(line);
    if (match !== null) fields.set(match[1]!, match[2]!);
    // what pvck finds wrong
    else if (/^\s*(CHECK|WARNING|Failed)/i.test(line)) return `pvck finds something wrong: ${line.trim()}`;
  }
  const id = fields.get('pv_header.pv_uuid');
  if (id === undefined) return 'pvck shows no physical volume';
  const checksums = new Set<string>();
  for (const area of ['mda_header_1', 'mda_header_2']) {
    const checksum = fields.get(`${area}.raw_locn[0].checksum`);
    if (checksum === undefined) continue;
    if (fields.get(`${area}.raw_locn[0].flags`) !== '0x0') return 'LVM was told to ignore its metadata area';
    checksums.add(checksum);
  }
  const [checksum, ...more] = checksums;
  if (checksum === undefined) return 'it has no metadata area of its own';
  return more.length > 0 ? 'its metadata areas differ' : { id, checksum };
}

/** The text between the dashes. */
function metadataOf(lines: string[], checksum: string): string | undefined {
  const [title = '', dashes, ...rest] = lines.filter((line) => line.trim() !== '');
  const crc = /^\s*metadata text at \d+ crc (0x[0-9a-f]+) # vgname \S+ seqno \d+$/.exec(title)?.[1];
  const last = rest.pop();
  return crc === checksum && dashes?.trim() === '---' && last?.trim() === '---' ? rest.join('\n') : undefined;
}

/** Extents, in numbers, that one logical volume has of this disk. */
interface Volume {
  runs: Extent[];
  /** Nothing of it is elsewhere, or not yet where it belongs. */
  whole: boolean;
}

function allocated(group: LvmSection, id: string, length: number): Partitioning {
  const disks = group.sections.get('physical_volumes')?.sections ?? new Map<string, LvmSection>();
  const [own] = [...disks].filter(([, disk]) => `${disk.values.get('id')}`.replaceAll('-', '') === id);
  if (own === undefined) return { doubt: 'its volume group does not name it' };
  const [name, disk] = own;
  const bytes = lvmNumber(group, 'extent_size') * SECTOR;
  const count = lvmNumber(disk, 'pe_count');
  const begin = lvmNumber(disk, 'pe_start') * SECTOR;
  const end = begin + count * bytes;
  if (bytes === 0 || begin === 0 || end > length) return { doubt: 'its extents do not fit it' };
  const used: Extent[] = [{ offset: 0, length: begin }];
  if (end < length) used.push({ offset: end, length: length - end });
  const parts: Extent[] = [];
  const inFull: string[] = [];
  const place = (run: Extent) => ({ offset: begin + run.offset * bytes, length: run.length * bytes });
  const all: Extent[] = [];
  const volumes = group.sections.get('logical_volumes')?.sections ?? new Map<string, LvmSection>();
  for (const [title, volume] of volumes) {
    const { runs, whole } = runsOf(volume, name);
    all.push(...runs);
    const inside = whole && runs.length === 1 && lvmList(volume, 'status').includes('VISIBLE');
    if (inside && !isNamed(title, volumes)) parts.push(place(runs[0]!));
    else if (runs.length > 0) {
      used.push(...runs.map(place));
      inFull.push(title);
    }
  }
  const overlap = all.sort((a, b) => a.offset - b.offset).some((run, i) => run.offset < endOf(all[i - 1]));
  if (overlap || endOf(all.at(-1)) > count) return { doubt: 'its logical volumes overlap' };
  parts.sort((a, b) => a.offset - b.offset);
  if (inFull.length === 0) return { parts, used };
  return { parts, used, note: `these logical volumes are not looked into: ${inFull.join(', ')}` };
}

function endOf(run: Extent | undefined): number {
  return run === undefined ? 0 : run.offset + run.length;
}

/** @throws Error for a kind of segment that may have extents of the disk in another way */
function runsOf(volume: LvmSection, disk: string): Volume {
  const runs: Extent[] = [];
  let whole = true;
  let extents = 0;
  for (let i = 1; i <= lvmNumber(volume, 'segment_count'); i++) {
    const segment = volume.sections.get(`segment${i}`);
    if (segment === undefined || lvmNumber(segment, 'start_extent') !== extents) {
      throw new Error('its logical volumes have holes');
    }
    extents += lvmNumber(segment, 'extent_count');
    const stripes = stripesOf(segment, disk);
    whole &&= stripes.length === 1 && stripes[0]!.disk === disk;
    for (const { offset, length } of stripes.filter((stripe) => stripe.disk === disk)) {
      const last = runs.at(-1);
      // pieces that follow each other, as an extension makes them
      if (endOf(last) === offset && last !== undefined) last.length += length;
      else runs.push({ offset, length });
    }
  }
  return { runs, whole };
}

/** Where a segment lies; nowhere, if it stands on other logical volumes. */
function stripesOf(segment: LvmSection, disk: string): (Extent & { disk: string })[] {
  const type = segment.values.get('type');
  if (type !== 'striped') {
    // a mirror of the old kind, or being moved
    if ([...lvmStrings(segment)].includes(disk)) throw new Error(`it has a segment of the kind ${type}`);
    return [];
  }
  const list = lvmList(segment, 'stripes');
  const length = lvmNumber(segment, 'extent_count') / lvmNumber(segment, 'stripe_count');
  const stripes = Array.from({ length: list.length / 2 }, (_, i) => {
    const [on, offset] = [list[2 * i], list[2 * i + 1]];
    return { disk: `${on}`, offset: typeof offset === 'number' ? offset : Number.NaN, length };
  });
  const odd = stripes.some(({ offset }) => !Number.isSafeInteger(offset) || offset < 0);
  if (odd || !Number.isSafeInteger(length) || length === 0 || list.length !== 2 * stripes.length) {
    throw new Error('a segment of it is not understood');
  }
  if (stripes.length !== lvmNumber(segment, 'stripe_count')) throw new Error('it lacks a stripe');
  return stripes;
}

/** Whether another volume, a snapshot or a pool, is made of it. */
function isNamed(name: string, volumes: Map<string, LvmSection>): boolean {
  for (const volume of volumes.values()) {
    for (const segment of volume.sections.values()) {
      for (const text of lvmStrings(segment)) if (text === name) return true;
    }
  }
  return false;
}
