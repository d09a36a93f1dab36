// Used-block lists of images made by the real tools: of each image only what is listed goes into a
// file of garbage, and its checker and its files find nothing amiss there. Nor do they in what is restored from a
// backup, which copies little more than the file system's own tool calls used.
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { startBackup } from '../../lib/backup.js';
import { BlockList } from '../../lib/blocks/block-list.js';
import { usedBlocks } from '../../lib/blocks/used/used-blocks.js';
import { openEmbedded } from '../../lib/origin.js';
import { restore } from '../../lib/restore/restore.js';
import { directoryTarget } from '../../lib/target/directory-target.js';
import { Cleanup } from '../helpers/cleanup.js';
import { snapbakExits } from '../helpers/cli.js';
import { must, needMounts, needPrograms, run } from '../helpers/programs.js';
import { copyUsed, embed, emptyImage, filesOf, fill, hibernate } from '../helpers/used-image.js';

const MIB = 2 ** 20;
/** Of no file system: what is behind its end is kept. */
const TAIL = 100 * 512;

interface Case {
  what: string;
  mkfs: string;
  mib: number;
  fsck: string;
  mount?: string;
}

const EXT: Case[] = [
  ['ext4', 'ext4'],
  ['ext4 with blocks of 1 KiB in small groups', 'ext4 -b 1024 -g 1024'],
  ['ext4 with clusters', 'ext4 -O bigalloc -C 16384'],
  ['ext4 with clusters of blocks of 1 KiB', 'ext4 -b 1024 -O bigalloc -C 8192'],
  ['ext4 without a journal', 'ext4 -O ^has_journal'],
  ['ext4 with meta_bg', 'ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode'],
  [
    'ext4 without 64bit and flex_bg, its groups not initialised',
    'ext4 -O ^64bit,^flex_bg,^metadata_csum,uninit_bg -b 1024',
  ],
  ['ext4 with two backups of the superblock', 'ext4 -O sparse_super2 -b 1024'],
  ['ext4 with the newest features', 'ext4 -O orphan_file,fast_commit,inline_data'],
  ['ext2', 'ext2'],
  ['ext3 with blocks of 1 KiB', 'ext3 -b 1024'],
].map(([what, mkfs]) => ({ what: what!, mkfs: `mkfs.${mkfs} -q -F`, mib: 48, fsck: 'e2fsck -fn' }));

const OTHERS: Case[] = [
  ['xfs with reflinks and reverse mappings', 'xfs -q -f -m reflink=1,rmapbt=1', 320],
  ['xfs with nine small groups', 'xfs -q -f -d agcount=9 -m reflink=0', 700],
  ['xfs with blocks of 1 KiB', 'xfs -q -f -b size=1024', 320],
  ['btrfs, single', 'btrfs -q -f -m single -d single', 200],
  ['btrfs, dup', 'btrfs -q -f -m dup -d dup', 280],
  ['btrfs with mixed groups', 'btrfs -q -f -M', 100],
].map(([what, mkfs, mib]) => ({
  what: what as string,
  mkfs: `mkfs.${mkfs}`,
  mib: mib as number,
  fsck: `${mkfs}`.startsWith('xfs') ? 'xfs_repair -n' : 'btrfs check --check-data-csum',
  ...(`${mkfs}`.startsWith('xfs') ? { mount: ',norecovery,nouuid' } : {}),
}));

/** What the file system's own tool says that it uses, bytes. */
async function usedByItsTool(kind: string, image: string): Promise<number> {
  const number = (text: string, pattern: RegExp) => Number(pattern.exec(text)?.[1]);
  if (kind.startsWith('xfs')) {
    const text = await must('xfs_db', ['-r', '-c', 'sb 0', '-c', 'print dblocks fdblocks blocksize', image]);
    const of = (name: string) => number(text, new RegExp(`^${name} = (\\d+)`, 'm'));
    return (of('dblocks') - of('fdblocks')) * of('blocksize');
  }
  if (kind.startsWith('btrfs')) {
    const text = await must('btrfs', ['inspect-internal', 'dump-tree', '-t', 'extent', image]);
    const groups = text.matchAll(/block group used (\d+) chunk_objectid 256 flags (\S+)/g);
    return Array.from(groups, ([, used, flags]) => Number(used) * (flags!.endsWith('DUP') ? 2 : 1)).reduce(
      (a, b) => a + b,
    );
  }
  const text = await must('dumpe2fs', ['-h', image]);
  const of = (name: string) => number(text, new RegExp(`^${name}:\\s+(\\d+)`, 'm'));
  return (of('Block count') - of('Free blocks')) * of('Block size');
}

describe('the used blocks of an image', () => {
  let cleanup: Cleanup;
  let folder: string;
  before(() => {
    needMounts();
    needPrograms('mkfs.ext4', 'e2fsck', 'mkfs.xfs', 'xfs_repair', 'mkfs.btrfs', 'btrfs', 'sfdisk', 'mkswap');
  });
  beforeEach(() => {
    cleanup = new Cleanup();
    folder = cleanup.folder('used');
  });
  afterEach(() => cleanup.run());

  async function made({ mkfs, mib }: Pick<Case, 'mkfs' | 'mib'>): Promise<string> {
    const image = emptyImage(join(folder, 'image'), mib * MIB + TAIL);
    const [program, ...args] = mkfs.split(' ');
    const size = program!.startsWith('mkfs.ext') ? [`${mib * 1024}k`] : [];
    await must(program!, [...args, image, ...size]);
    return image;
  }

  /** Takes a backup of an image in the smallest blocks, and restores it: the bytes that were copied. */
  async function backedUp(image: string, to: string): Promise<number> {
    const directory = join(folder, 'backup');
    await using origin = await openEmbedded(image);
    const backup = await startBackup({ origin, target: directoryTarget(directory), blockSize: 4096 });
    const { stats } = await backup.finished;
    await restore({ backup: directory, to });
    return stats.doneBytes;
  }

  for (const one of [...EXT, ...OTHERS]) {
    it(`are all that it needs: ${one.what}`, async () => {
      const image = await made(one);
      await fill(image, folder, one.what.length, 120);
      const copy = join(folder, 'copy');
      const { parts } = await copyUsed(image, copy);
      assert.deepEqual(
        parts.map(({ full, reason }) => [full, reason]),
        [[false, undefined]],
      );
      const [fsck, ...args] = one.fsck.split(' ');
      const checked = await run(fsck!, [...args, copy]);
      assert.equal(checked.code, 0, checked.stdout + checked.stderr);
      const used = await usedByItsTool(one.mkfs.slice('mkfs.'.length), image);
      const restored = join(folder, 'restored');
      const copied = (await backedUp(image, restored)) - 4096 * Math.ceil(TAIL / 4096);
      // of a btrfs its first MiB is kept besides, whatever it uses of it
      const limit = 1.05 * used + (one.mkfs.startsWith('mkfs.btrfs') ? MIB : 0);
      assert.ok(copied <= limit, `${copied} bytes were copied, ${used} are used`);
      const options = `loop,ro${one.mount ?? ''}`;
      const files = await filesOf(image, folder, options);
      assert.deepEqual(await filesOf(copy, folder, options), files);
      await must(fsck!, [...args, restored]);
      assert.deepEqual(await filesOf(restored, folder, options), files);
    });
  }

  it('of a swap space are its header, and what is behind its end', async () => {
    const image = emptyImage(join(folder, 'image'), 8 * MIB + 4097);
    await must('mkswap', ['--label', 'lbl', image]);
    const { list, parts } = await usedBlocks(image);
    assert.equal(parts[0]!.what, 'swap');
    assert.equal(list.toText(), `0 65536\n${8 * MIB + 4096} 1\n`);
  });

  it('of a swap space with a hibernated machine are all', async () => {
    const image = emptyImage(join(folder, 'image'), 8 * MIB);
    await hibernate(image);
    const { list, parts } = await usedBlocks(image);
    assert.match(parts[0]!.reason ?? '', /hibernates/);
    assert.equal(list.bytes, 8 * MIB);
  });

  it('of a disk with a hibernated machine are all: it goes on with what it had in memory', async () => {
    const disk = emptyImage(join(folder, 'disk'), 48 * MIB);
    const script = 'label: gpt\nstart=2048, size=16384\nsize=65536';
    await must('sh', ['-c', 'printf "$1" | sfdisk -q "$2"', 'sh', script, disk]);
    const [swap, files] = [
      emptyImage(join(folder, 'swap'), 8 * MIB),
      emptyImage(join(folder, 'files'), 32 * MIB),
    ];
    await must('mkswap', [swap]);
    await must('mkfs.ext4', ['-q', '-F', files]);
    await embed(files, disk, 9 * MIB);
    await embed(swap, disk, MIB);
    const awake = await usedBlocks(disk);
    assert.deepEqual([awake.hibernated, awake.parts.some(({ full }) => full)], [false, false]);
    await hibernate(swap);
    await embed(swap, disk, MIB);
    const { list, parts, hibernated } = await usedBlocks(disk);
    assert.equal(list.toText(), `0 ${48 * MIB}\n`);
    assert.match(parts[0]!.reason ?? '', /^a machine hibernates on it, whose memory knows more/);
    assert.ok(hibernated);
  });

  for (const [table, script] of [
    ['gpt', 'label: gpt\nstart=2048, size=65536\nsize=16384\nsize=262144\nsize=2048'],
    [
      'dos',
      'label: dos\nstart=2048, size=65536\nsize=16384\nsize=280000, type=5\ndisk5: size=262144\ndisk6: size=2048',
    ],
  ] as const) {
    it(`of a disk are its ${table} table, and each partition's own`, async () => {
      const disk = emptyImage(join(folder, 'disk'), 190 * MIB);
      await must('sh', ['-c', 'printf "$1" | sfdisk -q "$2"', 'sh', script, disk]);
      const { partitiontable } = JSON.parse(await must('sfdisk', ['--json', disk])) as {
        partitiontable: { partitions: { start: number; size: number; type: string }[] };
      };
      const places = partitiontable.partitions.filter(({ type }) => type !== '5');
      for (const [i, mkfs] of [
        'mkfs.ext4 -q -F -b 1024',
        'mkswap',
        'mkfs.btrfs -q -m single',
        '',
      ].entries()) {
        const { start, size } = places[i]!;
        const part = emptyImage(join(folder, `part${i}`), size * 512);
        if (mkfs !== '') await must(mkfs.split(' ')[0]!, [...mkfs.split(' ').slice(1), part]);
        if (i === 0) await fill(part, folder, 3, 60);
        await must('dd', [
          `if=${part}`,
          `of=${disk}`,
          `seek=${start}`,
          'bs=512',
          'conv=notrunc,sparse',
          'status=none',
        ]);
      }
      const copy = join(folder, 'copy');
      const { list, parts } = await copyUsed(disk, copy);
      assert.deepEqual(
        parts.map(({ what, full }) => [what, full]),
        [
          [`${table} partition table`, false],
          ['ext4', false],
          ['swap', false],
          ['btrfs', false],
          ['unknown', true],
        ],
      );
      assert.ok(list.bytes < 60 * MIB, `${list.bytes} bytes are listed`);
      assert.deepEqual(JSON.parse((await must('sfdisk', ['--json', copy])).replaceAll(copy, disk)), {
        partitiontable,
      });
      if (table === 'gpt') await must('sfdisk', ['--verify', copy]);
      for (const [i, fsck] of [['e2fsck', '-fn'], undefined, ['btrfs', 'check']].entries()) {
        if (fsck === undefined) continue;
        const { start, size } = places[i]!;
        const part = join(folder, `part${i}`);
        rmSync(part);
        await must('dd', [
          `if=${copy}`,
          `of=${part}`,
          `skip=${start}`,
          `count=${size}`,
          'bs=512',
          'conv=sparse',
          'status=none',
        ]);
        await must(fsck[0]!, [...fsck.slice(1), part]);
      }
    });
  }

  it('are all where they are not certain, and the reason is told', async () => {
    const reason = async (image: string) => {
      const { list, parts } = await usedBlocks(image);
      assert.equal(parts.length, 1);
      assert.equal(list.bytes, parts[0]!.length);
      return parts[0]!.reason ?? '';
    };
    const journal = emptyImage(join(folder, 'journal'), 8 * MIB);
    await must('mke2fs', ['-q', '-F', '-O', 'journal_dev', '-b', '4096', journal]);
    assert.match(await reason(journal), /journal of another file system/);
    const device = (await must('losetup', ['--find', '--show', journal])).trim();
    try {
      const outside = emptyImage(join(folder, 'outside'), 24 * MIB);
      await must('mkfs.ext4', ['-q', '-F', '-b', '4096', '-J', `device=${device}`, outside]);
      assert.match(await reason(outside), /journal is on another device/);
    } finally {
      await must('losetup', ['--detach', device]);
    }
    const image = await made({ mkfs: 'mkfs.ext4 -q -F', mib: 24 });
    // has_journal without an inode for it is a journal on another device
    await must('debugfs', ['-w', '-R', 'ssv journal_inum 0', image]);
    assert.match(await reason(image), /journal is on another device/);
    await must('debugfs', ['-w', '-R', 'ssv journal_inum 8', image]);
    assert.equal((await usedBlocks(image)).parts[0]!.full, false);
    await must('debugfs', ['-w', '-R', 'setb 5000 10', image]);
    assert.match(await reason(image), /bitmap/);
    const unknown = emptyImage(join(folder, 'unknown'), MIB);
    assert.match(await reason(unknown), /nothing on it is known/);
  });

  it('are all of a group that has no bitmap but says that blocks of it are used', async () => {
    const image = await made({ mkfs: 'mkfs.ext4 -q -F -b 1024 -g 1024 -O ^flex_bg', mib: 48 });
    const file = join(folder, 'file');
    writeFileSync(file, Buffer.alloc(20 * MIB, 7));
    await must('debugfs', ['-w', '-R', `write ${file} file`, image]);
    const blocks = (await must('debugfs', ['-R', 'blocks /file', image])).trim().split(' ').map(Number);
    const block = blocks[10_000]!;
    const group = Math.floor((block - 1) / 1024);
    const commands = join(folder, 'commands');
    const withoutBitmap = async (number: number) => {
      writeFileSync(commands, `set_bg ${number} flags 2\nset_bg ${number} checksum calc\n`);
      await must('debugfs', ['-n', '-w', '-f', commands, image]); // it has no sum of the bitmap of inodes, either
    };
    const before = await usedBlocks(image);
    await withoutBitmap(group);
    const { list, parts } = await usedBlocks(image);
    assert.equal(parts[0]!.full, false);
    assert.ok(list.contains(block * 1024));
    assert.ok(list.bytes <= before.list.bytes + MIB, `${list.bytes} bytes are listed`);
    await withoutBitmap(0);
    assert.match((await usedBlocks(image)).parts[0]!.reason ?? '', /first group has no block bitmap/);
  });

  it('are all where MMP says that e2fsck is at work', async () => {
    const image = await made({ mkfs: 'mkfs.ext4 -q -F -b 4096 -O mmp', mib: 48 });
    const [, block] = /^block_number: (\d+)/m.exec(await must('debugfs', ['-R', 'dump_mmp', image]))!;
    for (const [sequence, reason] of [
      [1, undefined],
      [0xe24d4d50, 'e2fsck is at work on it, or did not come to its end'],
      [0xff4d4d50, undefined],
    ] as const) {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(sequence);
      const fd = openSync(image, 'r+');
      writeSync(fd, bytes, 0, 4, Number(block) * 4096 + 4);
      closeSync(fd);
      assert.equal((await usedBlocks(image)).parts[0]!.reason, reason, `${sequence}`);
    }
  });

  // with clusters and blocks of 1 KiB, block 0 is nobody's, and all descriptors lie one block further
  for (const [layout, table] of [
    ['bigalloc -C 8192', 3],
    ['^bigalloc', 3],
    ['meta_bg,^resize_inode', 16 * 8192 + 1],
  ] as const) {
    it(`are all where its journal moves what the second block of descriptors names: ${layout}`, async () => {
      const image = await made({ mkfs: `mkfs.ext4 -q -F -b 1024 -J size=8 -O ${layout}`, mib: 1200 });
      const descriptors = Buffer.alloc(1024);
      const fd = openSync(image, 'r');
      readSync(fd, descriptors, 0, 1024, table * 1024);
      closeSync(fd);
      const bitmap = /^Group 16:.*\n(?:\s+Group desc.*\n)?\s+Block bitmap at (\d+)/m;
      assert.equal(String(descriptors.readUInt32LE(0)), bitmap.exec(await must('dumpe2fs', [image]))?.[1]);
      descriptors.writeUInt32LE(descriptors.readUInt32LE(0) + 1, 0);
      const [moved, commands] = [join(folder, 'moved'), join(folder, 'commands')];
      writeFileSync(moved, descriptors);
      writeFileSync(commands, `jo\njw -b ${table} ${moved}\njc\n`);
      await must('debugfs', ['-w', '-f', commands, image]);
      assert.equal((await usedBlocks(image)).parts[0]!.reason, 'its layout changes in its journal');
    });
  }

  it('are printed by "snapbak blocks" as a file that --blocks takes', async () => {
    const image = await made({ mkfs: 'mkfs.ext4 -q -F', mib: 24 });
    const { list } = await usedBlocks(image);
    const text = (await snapbakExits(0, 'blocks', image)).stdout;
    assert.match(text, /^# 0 ext4 of 24.05 MiB: [\d.]+ MiB listed$/m);
    assert.deepEqual([...BlockList.parse(text)], [...list]);
    const { events } = await snapbakExits(0, 'blocks', '--json', image);
    assert.equal(events[0]!.bytes, list.bytes);
    assert.deepEqual(
      events[0]!.extents,
      Array.from(list, ({ offset, length }) => [offset, length]),
    );
  });
});
