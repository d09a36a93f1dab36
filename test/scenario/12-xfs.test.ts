// A mounted xfs on the export, written to by a program that never pauses. All blocks, as in 11-ext4.
import assert from 'node:assert/strict';
import { Cleanup } from '../helpers/cleanup.js';
import { expectClean, fsStory, replayLog } from '../helpers/fs-story.js';

describe('a backup of a live xfs', () => {
  let cleanup: Cleanup;
  beforeEach(() => {
    cleanup = new Cleanup();
  });
  afterEach(() => cleanup.run());

  it('is clean for xfs_repair and has every file of the start instant', async () => {
    // mkfs.xfs refuses less than 300 MB
    const story = await fsStory(cleanup, 'xfs', {
      size: 384 << 20,
      backup: ['--rate', '96M', '--blocks', 'all'],
    });
    // a frozen xfs keeps its log open for unlinked files: a mount replays it, as it would after a crash
    await expectClean('xfs_repair', ['-n', await replayLog(story.image, story.folder)]);
    assert.ok(story.writtenDuring >= 20, `only ${story.writtenDuring} files were written during the backup`);
    assert.ok(story.captured > 0, 'nothing was captured: the writer never met the backup');
  });
});
