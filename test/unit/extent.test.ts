import assert from 'node:assert/strict';
import fc from 'fast-check';
import { assertBytes, assertExtent, flatten, formatSize, parseSize } from '../../lib/extent.js';

describe('an extent', () => {
  it('is accepted with whole numbers of bytes up to 2^53 - 1', () => {
    assertExtent('extent', { offset: 0, length: Number.MAX_SAFE_INTEGER });
    assertExtent('extent', { offset: Number.MAX_SAFE_INTEGER, length: 0 });
  });

  it('is refused by a TypeError that names argument and value if it is of the wrong kind', () => {
    const wrong: [unknown, RegExp][] = [
      [null, /extent must be \{ offset, length \} in bytes, got null/],
      ['0 4096', /extent must be .*got "0 4096"/],
      [{ offset: '0', length: 1 }, /extent\.offset must be a number of bytes, got "0"/],
      [{ offset: 0 }, /extent\.length must be a number of bytes, got undefined/],
      [{ offset: 0, length: 1n }, /extent\.length must be a number of bytes, got 1n/],
    ];
    for (const [value, message] of wrong)
      assert.throws(() => assertExtent('extent', value), { name: 'TypeError', message });
  });

  it('is refused by a RangeError if a number is no byte', () => {
    const wrong: [unknown, RegExp][] = [
      [{ offset: -1, length: 1 }, /extent\.offset .*got -1/],
      [{ offset: 0.5, length: 1 }, /extent\.offset .*got 0\.5/],
      [{ offset: 0, length: Number.NaN }, /extent\.length .*got NaN/],
      [{ offset: 2 ** 53, length: 1 }, /extent\.offset .*got 9007199254740992/],
      [{ offset: 2 ** 53 - 1, length: 1 }, /extent must end at or before 2\^53 - 1/],
    ];
    for (const [value, message] of wrong)
      assert.throws(() => assertExtent('extent', value), { name: 'RangeError', message });
  });

  it('is flattened to offset and length in turn, from any iterable', () => {
    const extents = [
      { offset: 1, length: 2 },
      { offset: 3, length: 4 },
    ];
    assert.deepEqual([...flatten(extents)], [1, 2, 3, 4]);
    assert.deepEqual([...flatten(new Set(extents))], [1, 2, 3, 4]);
    assert.equal(flatten([]).length, 0);
  });
});

describe('a number of bytes', () => {
  it('has the least that the caller asks for', () => {
    assertBytes('size', 1, 1);
    assert.throws(() => assertBytes('size', 0, 1), {
      name: 'RangeError',
      message: /size must be an integer from 1 .*got 0/,
    });
  });
});

describe('a size', () => {
  it('is read in binary units, with or without iB, in any case', () => {
    const sizes: [string, number][] = [
      ['4096', 4096],
      ['64K', 65_536],
      ['64 KiB', 65_536],
      ['1MiB', 2 ** 20],
      ['1.5G', 1.5 * 2 ** 30],
      ['2t', 2 * 2 ** 40],
      ['7P', 7 * 2 ** 50],
      ['512B', 512],
      [' 0 ', 0],
    ];
    for (const [text, bytes] of sizes) assert.equal(parseSize(text), bytes, text);
  });

  it('is refused with the text in the message if it is none', () => {
    for (const text of ['', 'K', '-1', '1e3', '64Q', '0x10', '1,5G', '1.5.5K', '64K 1', '∞']) {
      assert.throws(() => parseSize(text), { name: 'RangeError', message: /not a size: "/ }, text);
    }
    assert.throws(() => parseSize('64KB'), /binary: write K or KiB/);
    assert.throws(() => parseSize('1.5'), /not a whole number of bytes: "1\.5"/);
    assert.throws(() => parseSize('8P'), /above 2\^53 - 1/);
    assert.throws(() => parseSize(64 as unknown as string), { name: 'TypeError', message: /got 64/ });
  });

  it('is written for people in the unit that fits', () => {
    const sizes: [number, string][] = [
      [0, '0 B'],
      [1023, '1023 B'],
      [1024, '1 KiB'],
      [65_536, '64 KiB'],
      [1500, '1.46 KiB'],
      [2 ** 20 - 1, '1 MiB'],
      [1.5 * 2 ** 30, '1.5 GiB'],
      [2 ** 53, '8 PiB'],
    ];
    for (const [bytes, text] of sizes) assert.equal(formatSize(bytes), text);
  });

  it('that was written for people reads back as nearly the same', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 45 }), (bytes) => {
        const text = formatSize(bytes);
        const value =
          Number(text.split(' ')[0]) * 1024 ** ['B', 'KiB', 'MiB', 'GiB', 'TiB'].indexOf(text.split(' ')[1]!);
        assert.ok(Math.abs(value - bytes) <= bytes / 100, `${bytes} as ${text}`);
      }),
    );
  });
});
