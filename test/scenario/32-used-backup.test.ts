// `--blocks used`: the list comes from the start instant, through the point-in-time view.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readManifest } from '../../lib/manifest.js';
import { Cleanup } from '../helpers/cleanup.js';
import { expectExit } from '../helpers/cli.js';
import { expectClean, fsStory } from '../helpers/fs-story.js';
import { LiveWriter } from '../helpers/live-writer.js';
import { hashTree, MountedFs } from '../helpers/mounted-fs.js';
import { run } from '../helpers/programs.js';
import { restored, serveImage, startBackup } from '../helpers/served-image.js';
import { emptyImage, filesOf } from '../helpers/used-image.js';

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
      backup: ['--blocks', 'used', '--rate', '32M'],
    });
    await expectClean('e2fsck', ['-fn', story.image]);
    const listed = await listedOf(join(story.folder, 'backup'));
    assert.ok(listed < 64 * MIB, `${listed} bytes are in the manifest's list`);
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
});
