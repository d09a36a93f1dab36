import assert from 'node:assert/strict';
import fc from 'fast-check';
import { runsOf } from '../../../lib/backup/draft.js';

describe('runsOf', () => {
  it('joins neighbours, whatever their order, and cuts the last block at the end of the device', () => {
    assert.deepEqual(runsOf([4, 0, 1, 4], 4096, 4 * 4096 + 10), [
      { offset: 0, length: 8192 },
      { offset: 4 * 4096, length: 10 },
    ]);
    assert.deepEqual(runsOf([], 4096, 1), []);
  });

  it('names each block once, ascending, and never touches another run', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 50 })), (blocks) => {
        const runs = runsOf(blocks, 8, 51 * 8);
        const named = runs.flatMap(({ offset, length }) =>
          Array.from({ length: length / 8 }, (_, i) => offset / 8 + i),
        );
        assert.deepEqual(
          named,
          [...new Set(blocks)].sort((a, b) => a - b),
        );
        for (const [i, run] of runs.entries()) {
          assert.ok(i === 0 || runs[i - 1]!.offset + runs[i - 1]!.length < run.offset);
        }
      }),
    );
  });
});
