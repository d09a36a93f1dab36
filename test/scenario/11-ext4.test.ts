// A mounted ext4 on the export, written to by a program that never pauses. All blocks: what it writes anew is
// captured too. Without the free space: 32-used-backup.
import assert from 'node:assert/strict';
import { Cleanup } from '../helpers/cleanup.js';
import { expectClean, fsStory } from '../helpers/fs-story.js';

describe('a backup of a live ext4', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  it('is clean for e2fsck and has every file of the start instant', async () => {
    const story = await fsStory(cleanup, 'ext4', {
      size: 256 << 20,
      backup: ['--rate', '64M', '--blocks', 'all'],
    });
    await expectClean('e2fsck', ['-fn', story.image]);
    assert.ok(story.writtenDuring >= 20, `only ${story.writtenDuring} files were written during the backup`);
    assert.ok(story.captured > 0, 'nothing was captured: the writer never met the backup');
  });

  it('is so with 16 slots of 64 KiB and a file as the second tier', async () => {
    const tier2 = cleanup.folder('tier2');
    const container = ['--container', 'memory:1M', '--container', `file:${tier2}/container:16M`];
    const story = await fsStory(cleanup, 'ext4', {
      size: 256 << 20,
      backup: ['--rate', '64M', '--blocks', 'all', ...container],
    });
    await expectClean('e2fsck', ['-fn', story.image]);
    assert.ok(story.captured > 0, 'nothing was captured: the writer never met the backup');
  });
});
