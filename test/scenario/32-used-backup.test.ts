// Used blocks in a backup, which are its default: the list comes from the start instant, through
// the point-in-time view. And of an origin as of now.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startBackup as startBackupHere } from '../../lib/backup.js';
import { BlockList } from '../../lib/blocks/block-list.js';
import { usedBlocks } from '../../lib/blocks/used/used-blocks.js';
import { SnapbakError } from '../../lib/errors.js';
import { readManifest } from '../../lib/manifest.js';
import { openEmbedded } from '../../lib/origin.js';
import { directoryTarget } from '../../lib/target/directory-target.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit } from '../helpers/cli.js';
import { expectClean, fsStory, replayLog } from '../helpers/fs-story.js';
import { LiveWriter } from '../helpers/live-writer.js';
import { hashTree, MountedFs } from '../helpers/mounted-fs.js';
import { must, run } from '../helpers/programs.js';
import { restored, serveImage, startBackup } from '../helpers/served-image.js';
import { emptyImage, filesOf, hibernate } from '../helpers/used-image.js';

const MIB = 2 ** 20;

describe('a backup of the used blocks', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  async function listedOf(directory: string): Promise<number> {
    return (await readManifest(directory)).blocks.reduce((sum, [, length]) => sum + length, 0);
  }

  it('of a frozen ext4 has every file and not the free space', async () => {
    const story = await fsStory(cleanup, 'ext4', {
      size: 128 * MIB,
      backup: ['--rate', '32M'],
    });
    await expectClean('e2fsck', ['-fn', story.image]);
    const listed = await listedOf(join(story.folder, 'backup'));
    assert.ok(listed < 64 * MIB, `${listed} bytes are in the manifest's list`);
  });

  it('of a frozen xfs has every file and not the free space', async () => {
    const story = await fsStory(cleanup, 'xfs', { size: 320 * MIB, backup: ['--rate', '48M'] });
    await expectClean('xfs_repair', ['-n', await replayLog(story.image, story.folder)]);
    const listed = await listedOf(join(story.folder, 'backup'));
    assert.ok(listed < 160 * MIB, `${listed} bytes are in the manifest's list`);
  });

  it('of an ext4 that nobody froze is what recovery needs', async () => {
    const folder = cleanup.folder('live');
    const disk = emptyImage(join(folder, 'disk'), 128 * MIB);
    const served = await serveImage(cleanup, { image: disk });
    const fs = await MountedFs.make('ext4', served.nbdSocket, served.folder);
    cleanup.defer('unmount', () => fs.close());
    const documents = join(fs.mountPoint, 'documents');
    mkdirSync(documents);
    for (let i = 0; i < 60; i++)
      writeFileSync(join(documents, `document-${i}`), `${i}\n`.repeat(20_000), { flush: true });
    const before = await hashTree(documents);
    mkdirSync(join(fs.mountPoint, 'live'));
    const writer = new LiveWriter(join(fs.mountPoint, 'live'));
    cleanup.defer('stop the writer', () => writer.stop().catch(() => {}));
    await writer.wrote(50);
    const directory = join(served.folder, 'backup');
    const backup = startBackup(cleanup, served.origin, directory, '--blocks', 'used');
    const { parts } = (await backup.event('blocks')) as unknown as {
      parts: { what: string; full: boolean }[];
    };
    assert.deepEqual(
      parts.map(({ what, full }) => [what, full]),
      [['ext4', false]],
    );
    await expectExit(0, backup.finished);
    await writer.stop();
    const listed = await listedOf(directory);
    assert.ok(listed < 96 * MIB, `${listed} bytes are in the manifest's list`);
    const image = await restored(directory);
    const { code, stdout } = await run('e2fsck', ['-fy', image]);
    assert.ok(code === 0 || code === 1, stdout);
    await expectClean('e2fsck', ['-fn', image]);
    const after = await filesOf(image, folder);
    for (const [name, hash] of before) assert.equal(after.get(join('documents', name)), hash, name);
  });

  describe('whose origin nobody writes to', () => {
    /** Nothing can be shown as a file then: nbdkit and nbdfuse have no place for it. */
    function withoutFiles(): void {
      const { TMPDIR } = process.env;
      process.env.TMPDIR = '/nonexistent';
      cleanup.defer('restore TMPDIR', () => {
        if (TMPDIR === undefined) delete process.env.TMPDIR;
        else process.env.TMPDIR = TMPDIR;
      });
    }

    async function origin(mkfs: string, size: number) {
      const image = emptyImage(join(cleanup.folder('origin'), 'image'), size);
      const [program, ...args] = mkfs.split(' ');
      if (program !== '') await must(program!, [...args, image]);
      const opened = await openEmbedded(image);
      cleanup.defer('close the origin', () => opened.close());
      return { image, opened };
    }

    for (const mkfs of ['mkfs.ext4 -q -F', 'mkswap']) {
      it(`has the list of its image, without any program: ${mkfs}`, async () => {
        const { image, opened } = await origin(mkfs, 48 * MIB);
        const target = directoryTarget(join(cleanup.folder('backup'), 'backup'));
        const { list } = await usedBlocks(image);
        assert.ok(list.bytes < 24 * MIB, `${list.bytes} bytes are listed`);
        withoutFiles();
        assert.equal((await BlockList.used(opened)).toText(), list.toText());
        const backup = await startBackupHere({ origin: opened, target, blockSize: 4096, rate: 1 });
        const busy = (error: unknown) => SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_BUSY';
        await assert.rejects(BlockList.used(opened), busy);
        backup.setRate(undefined);
        const { manifest, stats } = await backup.finished;
        const listed = list.alignTo(4096, 48 * MIB);
        assert.equal(stats.doneBytes, listed.bytes);
        const whole = Array.from(listed, ({ offset, length }) => [offset, length]);
        assert.deepEqual(manifest.blocks, whole);
      });
    }

    it('has it for xfs by its tools, and is listed in full where they cannot be used', async () => {
      const { image, opened } = await origin('mkfs.xfs -q -f', 320 * MIB);
      const { list } = await usedBlocks(image);
      assert.ok(list.bytes < 160 * MIB, `${list.bytes} bytes are listed`);
      assert.equal((await BlockList.used(opened)).toText(), list.toText());
      withoutFiles();
      const { parts } = await usedBlocks(opened);
      assert.deepEqual([parts[0]?.what, parts[0]?.full], ['xfs', true]);
      assert.match(parts[0]?.reason ?? '', /tools cannot see the start instant: .*nonexistent/);
    });

    it('is backed up in full, soon, where nothing on it is known', async () => {
      const { opened } = await origin('', 64 * MIB);
      await opened.write(5 * MIB, Buffer.alloc(4096, 7));
      const target = directoryTarget(join(cleanup.folder('backup'), 'backup'));
      withoutFiles();
      const backup = await startBackupHere({ origin: opened, target });
      for await (const event of backup.events()) {
        if (event.event !== 'blocks') continue;
        assert.equal(event.parts[0]?.reason, 'nothing on it is known');
      }
      assert.deepEqual((await backup.finished).manifest.blocks, [[0, 64 * MIB]]);
    });

    it('is backed up in full where a machine hibernates on another origin of the backup', async () => {
      const [files, swap] = [await origin('mkfs.ext4 -q -F', 48 * MIB), await origin('mkswap', 8 * MIB)];
      const listed = async () => {
        const target = directoryTarget(join(cleanup.folder('backup'), 'backup'));
        const backup = await startBackupHere({ origins: [files.opened, swap.opened], target });
        return (await backup.finished).manifest.disks.map(({ blocks }) =>
          blocks.reduce((sum, [, length]) => sum + length, 0),
        );
      };
      const [before] = await listed();
      assert.ok(before! < 24 * MIB, `${before} bytes are listed`);
      await hibernate(swap.image);
      assert.deepEqual(await listed(), [48 * MIB, 8 * MIB]);
    });

    it('has it of logical partitions too', async () => {
      const script =
        'label: dos\nstart=2048, size=92160, type=5\ndisk5: size=65536\ndisk6: size=16384, type=82';
      const disk = emptyImage(join(cleanup.folder('disk'), 'disk'), 48 * MIB);
      await must('sh', ['-c', 'printf "$1" | sfdisk -q "$2"', 'sh', script, disk]);
      const opened = await openEmbedded(disk);
      cleanup.defer('close the origin', () => opened.close());
      const { list, parts } = await usedBlocks(disk);
      assert.equal(parts.length, 3);
      const found = await usedBlocks(opened);
      assert.deepEqual(found.parts, parts);
      assert.equal(found.list.toText(), list.toText());
    });
  });
});
