import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { NativePartition, NativeRangeProbe } from '../../../../lib/binding.js';
import { BlockList } from '../../../../lib/blocks/block-list.js';
import { partitioning } from '../../../../lib/blocks/used/partitions.js';

const MIB = 2 ** 20;

function probe(partitions: Partial<NativePartition>[], table = 'gpt'): NativeRangeProbe {
  const whole = partitions.map((one, i) => ({
    number: i + 1,
    offset: 0,
    length: 0,
    extended: false,
    type: 0,
    ...one,
  }));
  return { type: '', usage: '', table, several: false, partitions: whole };
}

describe('a partition table', () => {
  it('keeps what is outside of partitions: the table, gaps, the end', () => {
    const found = partitioning(
      probe([
        { offset: 8 * MIB, length: 2 * MIB },
        { offset: MIB, length: 6 * MIB },
      ]),
      20 * MIB,
    );
    assert.ok('parts' in found);
    assert.deepEqual(found.parts, [
      { offset: MIB, length: 6 * MIB },
      { offset: 8 * MIB, length: 2 * MIB },
    ]);
    assert.equal(
      BlockList.extents(found.used).toText(),
      `0 ${MIB}\n${7 * MIB} ${MIB}\n${10 * MIB} ${10 * MIB}\n`,
    );
  });

  it('keeps the links between logical partitions', () => {
    const found = partitioning(
      probe(
        [
          { offset: MIB, length: 10 * MIB, extended: true },
          { offset: 2 * MIB, length: 3 * MIB },
          { offset: 6 * MIB, length: 5 * MIB },
        ],
        'dos',
      ),
      11 * MIB,
    );
    assert.ok('parts' in found);
    assert.equal(BlockList.extents(found.used).toText(), `0 ${2 * MIB}\n${5 * MIB} ${MIB}\n`);
  });

  it('keeps the first MiB where a partition begins before', () => {
    const found = partitioning(probe([{ offset: 512, length: 4 * MIB }]), 8 * MIB);
    assert.ok('used' in found && BlockList.extents(found.used).contains(MIB - 1));
  });

  it('is not believed where it makes no sense', () => {
    const doubt = (partitions: Partial<NativePartition>[], table = 'gpt') => {
      const found = partitioning(probe(partitions, table), 8 * MIB);
      return 'doubt' in found ? found.doubt : undefined;
    };
    const one = { offset: MIB, length: 2 * MIB };
    assert.match(doubt([one], 'mac')!, /mac partition table/);
    assert.match(doubt([{ ...one, type: 0xee }], 'dos')!, /GPT/);
    assert.match(doubt([one, { offset: 3 * MIB - 512, length: MIB }])!, /overlaps/);
    assert.match(doubt([{ offset: 7 * MIB, length: MIB + 512 }])!, /beyond the end/);
    assert.match(doubt([{ offset: 0, length: MIB }])!, /table itself/);
    assert.match(doubt([{ offset: MIB, length: 0 }])!, /empty/);
    assert.equal(doubt([one]), undefined);
  });

  it('leaves no byte out that is in no partition', () => {
    const extent = fc.record({ offset: fc.nat(100), length: fc.nat(40) });
    fc.assert(
      fc.property(fc.array(extent, { maxLength: 6 }), (extents) => {
        const partitions = extents.map(({ offset, length }) => ({
          offset: offset * 512,
          length: length * 512,
        }));
        const found = partitioning(probe(partitions), 130 * 512);
        if ('doubt' in found) return;
        const all = BlockList.extents([...found.used, ...found.parts]);
        assert.equal(all.toText(), `0 ${130 * 512}\n`);
      }),
    );
  });
});
