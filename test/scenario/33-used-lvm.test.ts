// Used blocks of a whole disk with LVM in a partition: its label and metadata, the volumes, what their file systems
// use, and neither free extents nor free space.
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { usedBlocks } from '../../lib/blocks/used/used-blocks.js';
import { openEmbedded } from '../../lib/origin.js';
import { Cleanup } from '../helpers/cleanup.js';
import { EXTENT, FIRST, makeVolumeGroup } from '../helpers/lvm-image.js';
import { must, needMounts, needPrograms } from '../helpers/programs.js';
import { copyUsed, emptyImage, filesOf, fill } from '../helpers/used-image.js';

const MIB = 2 ** 20;
const START = 2048;

describe('the used blocks of a disk with LVM', function () {
  this.timeout(120_000);
  const cleanup = new Cleanup();
  let folder: string;
  let disk: string;
  /** The first extent of the volume with a file system, and how many it has. */
  const [AT, COUNT] = [5, 12];

  before(async () => {
    needMounts();
    needPrograms(
      'pvck',
      'pvcreate',
      'vgcreate',
      'vgcfgbackup',
      'vgcfgrestore',
      'sfdisk',
      'mkfs.ext4',
      'e2fsck',
    );
    folder = cleanup.folder('lvm');
    const pv = emptyImage(join(folder, 'pv'), 128 * MIB);
    await makeVolumeGroup(pv, folder, [
      { name: 'files', pieces: [[AT, COUNT]] },
      {
        name: 'pieces',
        pieces: [
          [20, 1],
          [24, 2],
        ],
      },
      { name: 'data', pieces: [[27, 1]] },
      { name: 'before', pieces: [[28, 1]] },
      {
        name: 'snapshot0',
        text: 'start_extent = 0 extent_count = 1 type = "snapshot" chunk_size = 8 origin = "data" cow_store = "before"',
      },
    ]);
    const files = emptyImage(join(folder, 'files'), COUNT * EXTENT);
    await must('mkfs.ext4', ['-q', '-F', '-b', '1024', files]);
    await fill(files, folder, 7, 60);
    await copy(files, pv, 0, FIRST + AT * EXTENT, COUNT * EXTENT);
    disk = emptyImage(join(folder, 'disk'), 130 * MIB);
    const script = `label: gpt\nstart=${START}, size=${128 * 2048}, type=E6D6D379-F507-44C2-A23C-238F2A3DF928`;
    await must('sh', ['-c', 'printf "$1" | sfdisk -q "$2"', 'sh', script, disk]);
    await copy(pv, disk, 0, START * 512, 128 * MIB);
  });
  after(() => cleanup.run());

  async function copy(from: string, to: string, skip: number, seek: number, bytes: number): Promise<void> {
    const places = [`skip=${skip}`, `seek=${seek}`, `count=${bytes}`];
    const flags = ['bs=1M', 'conv=notrunc,sparse', 'iflag=skip_bytes,count_bytes', 'oflag=seek_bytes'];
    await must('dd', [`if=${from}`, `of=${to}`, ...places, ...flags, 'status=none']);
  }

  it('are the metadata, the volumes, and of a file system what it uses', async () => {
    const { list, parts } = await usedBlocks(disk);
    assert.deepEqual(
      parts.map(({ what, full }) => [what, full]),
      [
        ['gpt partition table', false],
        ['LVM2_member', false],
        ['ext4', false],
      ],
    );
    assert.match(parts[1]!.note ?? '', /not looked into: pieces, data, before$/);
    const begin = START * 512 + FIRST;
    for (const [extent, listed] of [
      [0, false],
      [AT - 1, false],
      [AT, true],
      [AT + COUNT, false],
      [20, true],
      [21, false],
      [24, true],
      [25, true],
      [27, true],
      [28, true],
      [29, false],
    ] as const) {
      assert.equal(list.contains(begin + extent * EXTENT), listed, `extent ${extent}`);
    }
    assert.ok(list.bytes < 60 * MIB, `${list.bytes} bytes are listed`);
  });

  it('are all that LVM and the file system need', async () => {
    const restored = join(folder, 'restored');
    await copyUsed(disk, restored);
    const pv = emptyImage(join(folder, 'restored-pv'), 128 * MIB);
    await copy(restored, pv, START * 512, 0, 128 * MIB);
    const metadata = async (image: string) => await must('pvck', ['--dump', 'metadata', image]);
    assert.equal(await metadata(pv), await metadata(join(folder, 'pv')));
    const files = emptyImage(join(folder, 'restored-files'), COUNT * EXTENT);
    await copy(pv, files, FIRST + AT * EXTENT, 0, COUNT * EXTENT);
    await must('e2fsck', ['-fn', files]);
    assert.deepEqual(await filesOf(files, folder), await filesOf(join(folder, 'files'), folder));
  });

  it('are all where another has come after LVM, and left its label', async () => {
    const pv = emptyImage(join(folder, 'pool'), 64 * MIB);
    await makeVolumeGroup(pv, folder, []);
    const { list, parts } = await usedBlocks(pv);
    assert.deepEqual([parts[0]!.what, parts[0]!.full], ['LVM2_member', false]);
    assert.equal(list.bytes, 4 * MIB); // what is before the first extent, and behind the last
    // what zpool writes into the first of its labels: an uberblock in each KiB
    const file = await open(pv, 'r+');
    const magic = Buffer.alloc(8);
    magic.writeBigUInt64LE(0x00bab10cn);
    for (let i = 0; i < 16; i++) await file.write(magic, 0, 8, (128 + i) * 1024);
    await file.close();
    const pool = await usedBlocks(pv);
    assert.equal(pool.list.toText(), `0 ${64 * MIB}\n`);
    assert.equal(pool.parts[0]!.reason, 'it has the signatures of several kinds at once');
  });

  it('are the same through the point-in-time view', async () => {
    await using origin = await openEmbedded(disk);
    const [there, here] = [await usedBlocks(origin), await usedBlocks(disk)];
    assert.deepEqual(there.parts, here.parts);
    assert.equal(there.list.toText(), here.list.toText());
  });
});
