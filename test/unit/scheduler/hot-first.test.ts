import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BlockList } from '../../../lib/blocks/block-list.js';
import type { Extent } from '../../../lib/extent.js';
import { hotFirst } from '../../../lib/scheduler/hot-first.js';

const KiB = 2 ** 10;
const REGION = 64 * KiB;
const NOW = 10_000_000;

/** Regions of a device, by their age in ticks; undefined: never written. */
function heatOf(ages: (number | undefined)[], now = NOW) {
  const ticks = Uint32Array.from(ages, (age) => (age === undefined ? 0 : now - age));
  return { regionSize: REGION, now, ticks };
}

function order(
  ages: (number | undefined)[],
  {
    blockSize = REGION,
    size = ages.length * REGION,
    blocks,
    now,
  }: { blockSize?: number; size?: number; blocks?: Extent[]; now?: number } = {},
) {
  const list = (blocks === undefined ? BlockList.all(size) : BlockList.extents(blocks)).alignTo(
    blockSize,
    size,
  );
  const { extents, bytes } = hotFirst(heatOf(ages, now), list, blockSize, size);
  return { extents: [...extents], bytes };
}

/** As regions: `[first, count]`. */
function regions(extents: Extent[]): number[][] {
  return extents.map(({ offset, length }) => [offset / REGION, length / REGION]);
}

describe('hotFirst', () => {
  it('gives what was written most lately first, and what was not written not at all', () => {
    const { extents, bytes } = order([undefined, 100, undefined, 0, 5, undefined]);
    assert.deepEqual(regions(extents), [
      [3, 1],
      [4, 1],
      [1, 1],
    ]);
    assert.equal(bytes, 3 * REGION);
  });

  it('takes ages of the same power of four for one, ascending, neighbours in one run', () => {
    const { extents } = order([15, 4, undefined, 7, 3, 1, 2, 16]);
    assert.deepEqual(regions(extents), [
      [4, 3],
      [0, 2],
      [3, 1],
      [7, 1],
    ]);
  });

  it('leaves to the rest what was written more than 4^9 ticks ago', () => {
    const { extents, bytes } = order([4 ** 9, 4 ** 9 - 1]);
    assert.deepEqual(regions(extents), [[1, 1]]);
    assert.equal(bytes, REGION);
  });

  it('takes a region that was written while the others were looked at for the newest', () => {
    assert.deepEqual(regions(order([1, -1]).extents), [
      [1, 1],
      [0, 1],
    ]);
  });

  it('goes on when the ticks begin anew', () => {
    const ticks = Uint32Array.of(2 ** 32 - 1, 3);
    const list = BlockList.all(2 * REGION);
    const { extents } = hotFirst({ regionSize: REGION, now: 3, ticks }, list, REGION, 2 * REGION);
    assert.deepEqual(regions([...extents]), [
      [1, 1],
      [0, 1],
    ]);
  });

  it('gives whole blocks where these are larger than regions, as hot as the hottest part', () => {
    const ages = [undefined, 50, undefined, 0, ...Array(12).fill(undefined), 0];
    const { extents, bytes } = order(ages, { blockSize: 2 * REGION, size: 16 * REGION + 5 });
    assert.deepEqual(extents, [
      { offset: 2 * REGION, length: 2 * REGION },
      { offset: 16 * REGION, length: 5 },
      { offset: 0, length: 2 * REGION },
    ]);
    assert.equal(bytes, 4 * REGION + 5);
  });

  it('gives nothing that is not in the block list', () => {
    const blocks = [{ offset: REGION, length: REGION / 2 }];
    const { extents } = order([0, 0, 0], { blocks, blockSize: REGION / 2 });
    assert.deepEqual(extents, [{ offset: REGION, length: REGION / 2 }]);
  });

  it('gives each hot byte once and no other, in ten ascending passes at most', () => {
    const ages = fc.array(fc.option(fc.nat({ max: 2 ** 20 }), { nil: undefined }), {
      minLength: 1,
      maxLength: 300,
    });
    fc.assert(
      fc.property(ages, fc.nat({ max: REGION - 1 }), (given, short) => {
        const size = given.length * REGION - short;
        const { extents, bytes } = order(given, { size });
        const hot = given.flatMap((age, i) =>
          age === undefined || age >= 4 ** 9 ? [] : [{ offset: i * REGION, length: REGION }],
        );
        const wanted = BlockList.extents(hot).intersect(BlockList.all(size));
        assert.deepEqual([...BlockList.extents(extents)], [...wanted]);
        assert.equal(
          extents.reduce((sum, { length }) => sum + length, 0),
          wanted.bytes,
          'a byte came twice',
        );
        assert.equal(bytes, wanted.bytes);
        const turns = extents.filter(({ offset }, i) => offset < (extents[i - 1]?.offset ?? 0)).length;
        assert.ok(turns < 10, `it turned back ${turns} times`);
      }),
    );
  });
});
