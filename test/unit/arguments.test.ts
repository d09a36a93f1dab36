import assert from 'node:assert/strict';
import { expectInside, expectInteger, expectOneOf, expectOptions, expectType } from '../../lib/arguments.js';

describe('checks of arguments', () => {
  it('name the argument and the value', () => {
    assert.throws(() => expectType('a', 5, 'string'), {
      name: 'TypeError',
      message: 'a must be a string, not 5',
    });
    assert.throws(() => expectType('a', null, 'object'), /a must be a object, not null|a must be an object/);
    assert.throws(() => expectInteger('n', '5'), {
      name: 'TypeError',
      message: /n must be a number, not "5"/,
    });
    assert.throws(() => expectInteger('n', 9, 1, 8), {
      name: 'RangeError',
      message: 'n must be from 1 to 8, not 9',
    });
    assert.throws(() => expectOneOf('m', 'c', ['a', 'b']), {
      name: 'RangeError',
      message: /one of a, b, not "c"/,
    });
    assert.throws(() => expectOneOf('m', 1, ['a']), TypeError);
  });

  it('refuse numbers that are no safe integers', () => {
    for (const value of [Number.NaN, 1.5, Number.POSITIVE_INFINITY, 2 ** 53]) {
      assert.throws(() => expectInteger('n', value), RangeError);
    }
    assert.throws(() => expectInteger('n', 5n), TypeError);
    expectInteger('n', 2 ** 53 - 1);
  });

  it('refuse an option that is misspelt', () => {
    expectOptions('options', { fua: true }, ['fua']);
    assert.throws(
      () => expectOptions('options', { Fua: true }, ['fua']),
      /options\.Fua is not an option; .* fua/,
    );
    assert.throws(() => expectOptions('options', [], []), TypeError);
    assert.throws(() => expectOptions('options', null, []), TypeError);
  });

  it('refuse what is past the end of the device, without overflow', () => {
    expectInside(0, 10, 10);
    expectInside(10, 0, 10);
    assert.throws(
      () => expectInside(1, 10, 10),
      /offset 1 \+ length 10 is past the end of the device \(10 bytes\)/,
    );
    assert.throws(() => expectInside(2 ** 53 - 1, 2 ** 53 - 1, 10), RangeError);
    assert.throws(() => expectInside(-1, 1, 10), RangeError);
  });
});
