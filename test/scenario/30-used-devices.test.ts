// Used-block lists of block devices, which somebody may write to without having them exclusively, and whose page
// caches may be older than they are; and of parts of an image, which a loop device shows to tools.
import assert from 'node:assert/strict';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { usedBlocksOf } from '../../lib/blocks/used/compile.js';
import { withPath } from '../../lib/blocks/used/range-path.js';
import { openFileSource } from '../../lib/blocks/used/source.js';
import { linesOf, type RunTool, runTool } from '../../lib/blocks/used/tool.js';
import { usedBlocks } from '../../lib/blocks/used/used-blocks.js';
import { Cleanup } from '../helpers/cleanup.js';
import { must, needMounts, needPrograms } from '../helpers/programs.js';
import { emptyImage, withMount } from '../helpers/used-image.js';

const MIB = 2 ** 20;
const SIZE = 64 * MIB;
/** Of the partition, bytes. */
const START = MIB;

describe('the used blocks of a block device', () => {
  let cleanup: Cleanup;
  let folder: string;
  before(() => {
    needMounts();
    needPrograms('losetup', 'addpart', 'delpart', 'sfdisk', 'mkfs.ext4', 'dd', 'debugfs', 'mount');
  });
  beforeEach(() => {
    cleanup = new Cleanup();
    folder = cleanup.folder('devices');
  });
  afterEach(() => cleanup.run());

  async function attach(image: string): Promise<string> {
    const device = (await must('losetup', ['--find', '--show', image])).trim();
    cleanup.defer('detach', () => must('losetup', ['--detach', device]));
    return device;
  }

  async function keptOpen(path: string): Promise<FileHandle> {
    const file = await open(path, 'r');
    cleanup.defer('close', () => file.close());
    return file;
  }

  /** What they are, and why all of them are listed. */
  async function found(device: string): Promise<[string, string | undefined][]> {
    return (await usedBlocks(device)).parts.map(({ what, reason }) => [what, reason]);
  }

  async function withExt4(): Promise<string> {
    const device = await attach(emptyImage(join(folder, 'image'), SIZE));
    await must('mkfs.ext4', ['-q', '-F', device]);
    return device;
  }

  it('are found while others have it open, and are all while it is mounted', async () => {
    const device = await withExt4();
    await keptOpen(device);
    for (let i = 0; i < 3; i++) assert.deepEqual(await found(device), [['ext4', undefined]]);
    await withMount(device, join(folder, 'mnt'), 'ro', async () => {
      assert.deepEqual(await found(device), [['ext4', 'it is in use (mounted?)']]);
    });
  });

  for (const [how, flags] of [
    ['directly', ['oflag=direct']],
    ['into its page cache', []],
  ] as const) {
    it(`are all when one writes to it ${how}, who does not ask to have it alone`, async () => {
      const device = await withExt4();
      await using source = await openFileSource(device);
      const place = [`of=${device}`, 'bs=4096', 'count=1', `seek=${SIZE / 4096 - 1}`];
      await must('dd', ['if=/dev/zero', ...place, ...flags, 'conv=notrunc', 'status=none']);
      const { parts } = await usedBlocksOf(source);
      assert.equal(parts[0]!.reason, 'it was written to while it was read');
    });
  }

  it('are all where nobody counts what is written', async () => {
    const device = await withExt4();
    const switched = `/sys/block/${device.slice('/dev/'.length)}/queue/iostats`;
    const counting = (on: boolean) => must('sh', ['-c', `echo ${on ? 1 : 0} > ${switched}`]);
    await counting(false);
    cleanup.defer('count again', () => counting(true));
    const [[what, reason] = []] = await found(device);
    assert.equal(what, 'ext4');
    assert.match(reason ?? '', /the kernel does not count/);
  });

  it('are those of now, though the disk has an old page cache of its partition', async () => {
    const disk = emptyImage(join(folder, 'disk'), SIZE);
    const sectors = (SIZE - 2 * START) / 512;
    await must('sh', [
      '-c',
      'echo "$1" | sfdisk -q "$2"',
      'sh',
      `label: gpt\nstart=2048, size=${sectors}`,
      disk,
    ]);
    const device = await attach(disk);
    await must('addpart', [device, '1', '2048', `${sectors}`]);
    cleanup.defer('remove the partition', () => must('delpart', [device, '1']));
    const partition = `${device}p1`;
    await must('mkfs.ext4', ['-q', '-F', '-b', '4096', partition]);
    const cached = await keptOpen(device);
    await cached.read(Buffer.alloc(SIZE), 0, SIZE, 0);
    await withMount(partition, join(folder, 'mnt'), 'rw', async (path) => {
      await must('dd', ['if=/dev/urandom', `of=${join(path, 'file')}`, 'bs=1M', 'count=20', 'status=none']);
    });
    const { list, parts } = await usedBlocks(device);
    assert.deepEqual(
      parts.map(({ full }) => full),
      [false, false],
    );
    const [first] = (await must('debugfs', ['-R', 'blocks /file', partition])).trim().split(' ').map(Number);
    assert.ok(list.contains(START + first! * 4096), 'the file that was written through the partition');
  });

  it('are not read by a tool from a loop device that became another', async () => {
    const image = emptyImage(join(folder, 'image'), 4 * MIB);
    const foreign = emptyImage(join(folder, 'foreign'), 4 * MIB);
    let device = '';
    /** Somebody detaches all loop devices, and the next takes the number that was ours. */
    const late: RunTool = async (name, args, line) => {
      if (!args.includes('--find')) return await runTool(name, args, line);
      [device = ''] = await linesOf(runTool, name, [...args.slice(0, -1), foreign]);
      cleanup.defer('detach', () => must('losetup', ['--detach', device]));
      line(device);
    };
    await using source = await openFileSource(image);
    const range = { source, offset: MIB, length: MIB };
    let used = 0;
    const use = async () => void used++;
    await assert.rejects(withPath(range, use, late), /became another one before it was opened/);
    assert.equal(used, 0);
    assert.match(await must('losetup', ['--list', device]), /foreign/, 'what is another’s stays');
    await withPath(range, use);
    assert.equal(used, 1);
    assert.equal(await must('losetup', ['--associated', image]), '');
  });
});
