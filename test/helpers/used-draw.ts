/** File systems for the proof of used-block lists: what a seed makes of mkfs, the mount, and the size. */
import { createHash } from 'node:crypto';
import type { LiveFsOptions } from './live-fs.js';

export const KINDS = ['ext', 'xfs'] as const;
export type Kind = (typeof KINDS)[number];

const MIB = 2 ** 20;

const EXT_FEATURES: Record<string, string[]> = {
  ext4: [
    '',
    '-b 1024',
    '-b 1024 -g 1024',
    '-O ^metadata_csum,uninit_bg',
    '-O bigalloc -C 16384',
    '-O ^64bit,^flex_bg -b 1024 -g 2048',
    '-O meta_bg,^resize_inode -b 1024 -g 1024',
    '-O orphan_file,inline_data -b 1024',
    '-O ^extents,^64bit',
    '-O ^has_journal',
    '-O ^has_journal -b 1024 -g 2048',
  ],
  ext3: ['', '-b 1024', '-g 1024 -b 1024'],
  ext2: ['', '-b 1024', '-g 1024 -b 1024'],
};

/** By the same seed the same file system, whatever else was drawn. */
export function draw(kind: Kind, seed: number): LiveFsOptions {
  let drawn = 0;
  const pick = <T>(list: readonly T[]): T => {
    const hash = createHash('sha256').update(`${kind} ${seed} ${drawn++}`).digest();
    return list[hash.readUInt32LE() % list.length]!;
  };
  return { ...(kind === 'ext' ? ext(pick) : xfs(pick)), seed };
}

type Pick = <T>(list: readonly T[]) => T;

function ext(pick: Pick): Omit<LiveFsOptions, 'seed'> {
  const type = pick(['ext4', 'ext4', 'ext4', 'ext4', 'ext3', 'ext2']);
  const features = pick(EXT_FEATURES[type]!);
  const journal = type !== 'ext2' && !features.includes('^has_journal');
  const log = journal ? pick(['', '-J size=4', '-J size=8']) : '';
  const data = pick(['ordered', 'ordered', 'writeback', 'journal']);
  // v3 checksums of the log
  const sums = type === 'ext4' && pick([false, true]) ? ',journal_checksum' : '';
  return {
    mkfs: words(`mkfs.${type} -q -F ${features} ${log}`),
    options: journal ? `commit=1,data=${data}${sums}` : 'rw',
    size: pick([24, 48, 96]) * MIB,
    freeze: !journal,
  };
}

function xfs(pick: Pick): Omit<LiveFsOptions, 'seed'> {
  const block = pick(['', '', '-b size=1024', '-b size=2048']);
  const groups = pick(['', '-d agcount=2', '-d agcount=3', '-d agcount=4']);
  const metadata = pick([
    '',
    '-m reflink=0',
    '-m reflink=0,finobt=0',
    '-m reflink=1,rmapbt=1',
    '-m bigtime=1,inobtcount=1',
  ]);
  const inode = pick(['', block === '-b size=1024' ? '' : '-i size=1024', '-i sparse=1', '-i maxpct=10']);
  const names = pick(['', '-n size=8192']);
  return {
    mkfs: words(`mkfs.xfs -q -f ${block} ${groups} ${metadata} ${inode} ${names}`),
    // it makes none below 300 MB but for fstests
    env: { TEST_DIR: '/', TEST_DEV: '/', QA_CHECK_FS: '/' },
    options: 'nouuid',
    size: pick([96, 128, 160]) * MIB,
    freeze: true,
  };
}

function words(text: string): string[] {
  return text.split(' ').filter(Boolean);
}
