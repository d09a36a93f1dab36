import assert from 'node:assert/strict';
import { LineCutter } from '../../../lib/cli/line-cutter.js';

describe('what a program says', () => {
  function lines(max: number, ...pieces: string[]): string[] {
    const told: string[] = [];
    const cutter = new LineCutter(max, (line) => told.push(line));
    for (const piece of pieces) cutter.push(piece);
    cutter.end();
    return told;
  }

  it('comes in lines, wherever the pieces are cut and however lines end', () => {
    const text = 'one\ntwo\r\n\nthree\rfour\r\nlast';
    const expected = ['one', 'two', '', 'three', 'four', 'last'];
    assert.deepEqual(lines(10, text), expected);
    assert.deepEqual(lines(10, ...text), expected);
    for (let at = 0; at <= text.length; at++)
      assert.deepEqual(lines(10, text.slice(0, at), text.slice(at)), expected, `cut at ${at}`);
    assert.deepEqual(lines(10, `${text}\n`), expected);
    assert.deepEqual(lines(10), []);
  });

  it('is cut where a line is too long, and the next line is whole', () => {
    assert.deepEqual(lines(5, '12345\n123456\n', '1234', '5', '6', '7\nnext'), [
      '12345',
      '12345…',
      '12345…',
      'next',
    ]);
  });

  it('has no NUL, which no environment could have', () => {
    assert.deepEqual(lines(5, 'a\0b\0', '\0\n'), ['a\uFFFDb\uFFFD\uFFFD']);
  });
});
