/**
 * A physical volume of LVM in an image, made by LVM's own programs. They make no
 * logical volumes where the kernel has no device mapper; so those are written into
 * the group's metadata by hand, and vgcfgrestore puts them on the disk.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './programs.js';

export const EXTENT = 4 * 2 ** 20;
/** Where the first extent is: as pvcreate has it. */
export const FIRST = 2 ** 20;

/** A logical volume: the extents of each of its pieces, or what its only segment says. */
export type Volume =
  | { name: string; pieces: [start: number, count: number][] }
  | { name: string; text: string };

/** @param folder for files of this function's own */
export async function makeVolumeGroup(image: string, folder: string, volumes: Volume[]): Promise<void> {
  const device = (await must('losetup', ['--find', '--show', image])).trim();
  try {
    const group = `snapbak-${randomUUID()}`;
    const only = `devices { use_devicesfile=0 filter=["a|^${device}$|","r|.*|"] global_filter=["a|.*|"] }`;
    const env = { LVM_SUPPRESS_FD_WARNINGS: '1' };
    const lvm = (command: string, ...args: string[]) => must(command, ['--config', only, ...args], { env });
    await lvm('pvcreate', '-q', device);
    await lvm('vgcreate', '-q', group, device);
    const file = join(folder, 'metadata');
    await lvm('vgcfgbackup', '-q', '-f', file, group);
    const text = readFileSync(file, 'utf8');
    const end = text.lastIndexOf('}');
    writeFileSync(file, `${text.slice(0, end)}logical_volumes { ${volumes.map(textOf).join('\n')} }\n}\n`);
    await lvm('vgcfgrestore', '-q', '-f', file, group);
  } finally {
    await must('losetup', ['--detach', device]);
  }
}

function textOf(volume: Volume, number: number): string {
  let next = 0;
  const segments =
    'text' in volume
      ? [`segment1 { ${volume.text} }`]
      : volume.pieces.map(([start, count], i) => {
          const first = next;
          next += count;
          return `segment${i + 1} { start_extent = ${first} extent_count = ${count} type = "striped"
            stripe_count = 1 stripes = [ "pv0", ${start} ] }`;
        });
  const id = `snapbk-${'0000-'.repeat(5)}${number.toString().padStart(6, '0')}`;
  return `${volume.name} { id = "${id}" status = ["READ", "WRITE", "VISIBLE"] flags = []
    segment_count = ${segments.length} ${segments.join('\n')} }`;
}
