import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { BlockList } from '../../../lib/blocks/block-list.js';
import type { Extent } from '../../../lib/extent.js';
import { Cleanup } from '../../helpers/cleanup.js';

const SIZE = 64; // bytes of the small devices in the properties

const extent = fc
  .record({ offset: fc.integer({ min: 0, max: SIZE - 1 }), length: fc.integer({ min: 0, max: 20 }) })
  .map(({ offset, length }) => ({ offset, length: Math.min(length, SIZE - offset) }));
const extents = fc.array(extent, { maxLength: 12 });

/** The naive model: one flag a byte. */
function model(list: Extent[]): boolean[] {
  const bytes = new Array<boolean>(SIZE).fill(false);
  for (const { offset, length } of list) bytes.fill(true, offset, offset + length);
  return bytes;
}

/** Checks what every list promises, and gives its bytes. */
function bytesOf(list: BlockList): boolean[] {
  const runs = [...list];
  let end = -1;
  for (const { offset, length } of runs) {
    assert.ok(offset > end, 'runs are ascending and do not touch');
    assert.ok(length > 0, 'runs are not empty');
    end = offset + length;
  }
  assert.equal(list.runs, runs.length);
  assert.equal(list.end, Math.max(end, 0));
  assert.deepEqual(
    [...list.flat()],
    runs.flatMap(({ offset, length }) => [offset, length]),
  );
  return model(runs);
}

describe('a block list', () => {
  it('holds the union of the extents that it is made of', () => {
    fc.assert(
      fc.property(extents, (list) => assert.deepEqual(bytesOf(BlockList.extents(list)), model(list))),
    );
  });

  it('is united, intersected and subtracted byte for byte', () => {
    fc.assert(
      fc.property(extents, extents, (left, right) => {
        const [a, b] = [BlockList.extents(left), BlockList.extents(right)];
        const [x, y] = [model(left), model(right)];
        assert.deepEqual(
          bytesOf(a.union(b)),
          x.map((inX, i) => inX || y[i]!),
        );
        assert.deepEqual(
          bytesOf(a.intersect(b)),
          x.map((inX, i) => inX && y[i]!),
        );
        assert.deepEqual(
          bytesOf(a.subtract(b)),
          x.map((inX, i) => inX && !y[i]!),
        );
        assert.deepEqual(bytesOf(a), x, 'the list itself does not change');
      }),
    );
  });

  it('knows its bytes, its members and the blocks that it touches', () => {
    fc.assert(
      fc.property(
        extents,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: SIZE }),
        (list, blockSize, size) => {
          const compiled = BlockList.extents(list);
          const bytes = model(list);
          assert.equal(compiled.bytes, bytes.filter(Boolean).length);
          for (const [offset, member] of bytes.entries()) assert.equal(compiled.contains(offset), member);
          const touched = new Set(
            bytes.flatMap((member, offset) => (member ? [Math.floor(offset / blockSize)] : [])),
          );
          assert.equal(compiled.count(blockSize), touched.size);
          assert.equal(
            compiled.count(blockSize, size),
            [...touched].filter((block) => block * blockSize < size).length,
          );
        },
      ),
    );
  });

  it('is widened to whole blocks and cut at the end of the device', () => {
    fc.assert(
      fc.property(
        extents,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0, max: SIZE }),
        (list, blockSize, size) => {
          const touched = model(list).map((_, offset, bytes) => {
            const block = offset - (offset % blockSize);
            return offset < size && bytes.slice(block, block + blockSize).some(Boolean);
          });
          assert.deepEqual(bytesOf(BlockList.extents(list).alignTo(blockSize, size)), touched);
        },
      ),
    );
  });

  it('reads back from its text as the same list', () => {
    fc.assert(
      fc.property(extents, (list) => {
        const compiled = BlockList.extents(list);
        assert.deepEqual([...BlockList.parse(compiled.toText())], [...compiled]);
      }),
    );
  });

  it('of everything is one run, and of nothing none', () => {
    assert.deepEqual([...BlockList.all(100)], [{ offset: 0, length: 100 }]);
    assert.deepEqual([...BlockList.all(0)], []);
    assert.equal(BlockList.all(0).end, 0);
    assert.equal(BlockList.all(2 ** 53 - 1).contains(2 ** 53 - 2), true);
  });

  it('gives its extents as a copy that cannot change it', () => {
    const list = BlockList.all(100);
    list.flat()[1] = 5;
    assert.equal(list.bytes, 100);
  });

  it('takes extents from any iterable, and refuses what is none by its place', () => {
    assert.equal(BlockList.extents(new Set([{ offset: 0, length: 1 }])).bytes, 1);
    const wrong = (value: unknown) => () => BlockList.extents(value as Extent[]);
    assert.throws(wrong({ offset: 0, length: 1 }), {
      name: 'TypeError',
      message: /extents must be an iterable/,
    });
    assert.throws(wrong(null), { name: 'TypeError', message: /got null/ });
    assert.throws(wrong([{ offset: 0, length: 1 }, null]), {
      name: 'TypeError',
      message: /extents\[1\] .*got null/,
    });
    assert.throws(wrong([{ offset: -4, length: 1 }]), {
      name: 'RangeError',
      message: /extents\[0\]\.offset .*got -4/,
    });
    assert.throws(wrong([{ offset: 1, length: 2 ** 53 - 1 }]), {
      name: 'RangeError',
      message: /extents\[0\] must end/,
    });
  });

  it('refuses arguments that are no bytes, and lists that are none', () => {
    const list = BlockList.all(10);
    assert.throws(() => BlockList.all(-1), { name: 'RangeError', message: /size .*got -1/ });
    assert.throws(() => BlockList.all('1G' as unknown as number), {
      name: 'TypeError',
      message: /size .*"1G"/,
    });
    assert.throws(() => list.count(0), { name: 'RangeError', message: /blockSize .*got 0/ });
    assert.throws(() => list.alignTo(4096, -1), { name: 'RangeError', message: /size .*got -1/ });
    assert.throws(() => list.contains(1.5), { name: 'RangeError', message: /offset .*got 1\.5/ });
    assert.throws(() => list.union([] as unknown as BlockList), {
      name: 'TypeError',
      message: /other must be a BlockList/,
    });
  });
});

describe('the text of a block list', () => {
  it('has a start and a length a line, with units, comments and blank lines', () => {
    const text = '# boot\n0 1M  # the first megabyte\n\n\t1.5M 512K\r\n2097152\t4096';
    assert.deepEqual(
      [...BlockList.parse(text)],
      [
        { offset: 0, length: 2 ** 20 },
        { offset: 1.5 * 2 ** 20, length: 512 * 1024 + 4096 },
      ],
    );
    assert.equal(BlockList.parse('').runs, 0);
  });

  it('is refused with its name and the line that is wrong', () => {
    const wrong: [string, RegExp][] = [
      ['0 1\n5', /^list\.txt:2: expected START LENGTH in bytes, got "5"/],
      ['# x\n\n1 2 3\n', /^list\.txt:3: expected START LENGTH/],
      ['a b', /^list\.txt:1: not a size: "a"/],
      ['0 -5', /^list\.txt:1: not a size: "-5"/],
      ['1 9007199254740991', /^list\.txt:1: extent must end/],
      ['\u0000\u0001', /^list\.txt:1: expected START LENGTH/],
    ];
    for (const [text, message] of wrong) {
      assert.throws(() => BlockList.parse(text, 'list.txt'), {
        code: 'ERR_SNAPBAK_BLOCK_LIST',
        message,
        path: 'list.txt',
      });
    }
    assert.throws(() => BlockList.parse('x'), {
      code: 'ERR_SNAPBAK_BLOCK_LIST',
      message: /^block list, line 1: /,
    });
  });

  describe('in a file', () => {
    const cleanup = new Cleanup();
    after(() => cleanup.run());

    it('is read, and an error names file and line', async () => {
      const path = join(cleanup.folder('list'), 'list');
      writeFileSync(path, '4096 4096\n0 4K\n');
      assert.deepEqual([...(await BlockList.fromFile(path))], [{ offset: 0, length: 8192 }]);
      writeFileSync(path, '0 4K\nrubbish\n');
      await assert.rejects(BlockList.fromFile(path), {
        code: 'ERR_SNAPBAK_BLOCK_LIST',
        message: new RegExp(`^${path}:2: `),
        path,
      });
    });

    it('that is not there, or is no file, is an error with its path', async () => {
      const folder = cleanup.folder('list');
      const missing = join(folder, 'missing');
      await assert.rejects(BlockList.fromFile(missing), {
        code: 'ERR_SNAPBAK_BLOCK_LIST',
        message: `cannot open the block list ${missing}: no such file or directory (ENOENT)`,
        path: missing,
      });
      await assert.rejects(BlockList.fromFile(folder), {
        code: 'ERR_SNAPBAK_BLOCK_LIST',
        message: /\(EISDIR\)/,
      });
      await assert.rejects(BlockList.fromFile(7 as unknown as string), {
        name: 'TypeError',
        message: /path/,
      });
    });
  });
});

describe('a block list of 64 TiB', () => {
  const RUNS = 1_000_000;
  const size = 64 * 2 ** 40;
  const step = 2 * Math.floor(size / RUNS / 2);
  const make = (shift: number) =>
    Array.from({ length: RUNS }, (_, i) => ({ offset: i * step + shift, length: step / 2 }));

  /** Milliseconds of processor time, the best of five: what the code costs, not what else the machine does. */
  function best(run: () => unknown): number {
    const times = Array.from({ length: 5 }, () => {
      const began = process.cpuUsage();
      run();
      const { user, system } = process.cpuUsage(began);
      return (user + system) / 1000;
    });
    return Math.min(...times);
  }

  it('in one run costs next to nothing', () => {
    const all = BlockList.all(size);
    assert.ok(
      best(() =>
        all
          .subtract(BlockList.extents([{ offset: 2 ** 40, length: 4096 }]))
          .alignTo(65_536, size)
          .count(65_536),
      ) < 5,
    );
  });

  it('in a million runs takes less than 100 ms for every operation', () => {
    const [left, right] = [make(0), make(step / 4)];
    const [a, b] = [BlockList.extents(left), BlockList.extents(right)];
    assert.equal(a.runs, RUNS);
    const costs: Record<string, number> = {
      extents: best(() => BlockList.extents(left)),
      union: best(() => a.union(b)),
      intersect: best(() => a.intersect(b)),
      subtract: best(() => a.subtract(b)),
      alignTo: best(() => a.alignTo(4096, size)),
      count: best(() => a.count(65_536, size)),
      bytes: best(() => a.bytes),
      flat: best(() => a.flat()),
      contains: best(() => a.contains(size / 2)),
    };
    for (const [name, ms] of Object.entries(costs)) assert.ok(ms < 100, `${name} took ${ms.toFixed(1)} ms`);
  });
});
