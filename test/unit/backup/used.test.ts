import assert from 'node:assert/strict';
import { dropFreeBlocks, findUsedBlocks } from '../../../lib/backup/used.js';
import { BlockList } from '../../../lib/blocks/block-list.js';
import { FakeSession, fakeInfo, nativeError } from '../../helpers/fake-session.js';

const BLOCK = 65_536;

describe('used blocks of a session', () => {
  function setup() {
    const session = new FakeSession();
    const info = fakeInfo();
    return { session, info, list: BlockList.all(info.size), blockSize: BLOCK };
  }

  it('are all where the start instant cannot be read, and the reason is told', async () => {
    const what = setup();
    what.session.failing.set('openView', nativeError(-95, 'view'));
    const found = await findUsedBlocks(what, 'unix:/run/x');
    const { list, event } = dropFreeBlocks(what, 'unix:/run/x', found);
    assert.deepEqual([...list], [...what.list]);
    assert.equal(event.listedBytes, what.info.size);
    assert.match(event.parts[0]?.reason ?? '', /cannot be read/);
  });

  it('are all where the session ended meanwhile: whoever ended it says so', async () => {
    const what = setup();
    what.session.failing.set('openView', nativeError(-108, 'view'));
    what.session.unlist = () => {
      throw nativeError(-22, 'unlist');
    };
    const free = { list: BlockList.extents([]), parts: [], hibernated: false, begin: 0 };
    assert.deepEqual([...dropFreeBlocks(what, 'unix:/run/x', free).list], [...what.list]);
  });

  it('are all where a machine hibernates on another origin, and that is told', () => {
    const what = setup();
    const found = { list: BlockList.extents([]), parts: [], hibernated: false, begin: 0 };
    const { list, event } = dropFreeBlocks(what, 'unix:/run/x', found, 'unix:/run/swap');
    assert.deepEqual([...list], [...what.list]);
    assert.match(event.parts[0]?.reason ?? '', /^a machine hibernates on unix:\/run\/swap, whose memory/);
  });

  it('are all when it is given up before they were found', async () => {
    const what = setup();
    const { list } = await findUsedBlocks(what, 'unix:/run/x', {
      signal: AbortSignal.abort(new Error('no')),
    });
    assert.deepEqual([...list], [...what.list]);
  });
});
