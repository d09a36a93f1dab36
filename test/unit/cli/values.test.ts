import assert from 'node:assert/strict';
import {
  blockSizeValue,
  delayValue,
  durationValue,
  formatSeconds,
  hookTimeoutValue,
  listValue,
  rateValue,
  sizeValue,
  watermarksValue,
} from '../../../lib/cli/values.js';

describe('values on the command line', () => {
  it('are times with a unit', () => {
    assert.deepEqual(
      ['500ms', '30s', '1.5m', '24h', '1d'].map(durationValue),
      [500, 30_000, 90_000, 86_400_000, 86_400_000],
    );
    for (const bad of ['30', '', 's', '-1s', '0s', '0.1ms', '25h', '7d', '1 s', '1e3s']) {
      assert.throws(() => durationValue(bad), { code: 'commander.invalidArgument' }, bad);
    }
  });

  it('are delays up to a second, or none', () => {
    assert.deepEqual(['0', '250ms', '1s'].map(delayValue), [0, 250, 1000]);
    for (const bad of ['2s', '', '-1s', '5']) {
      assert.throws(() => delayValue(bad), { code: 'commander.invalidArgument' }, bad);
    }
  });

  it('are times for a hook up to ten minutes', () => {
    assert.deepEqual(['1ms', '30s', '10m'].map(hookTimeoutValue), [1, 30_000, 600_000]);
    for (const bad of ['0', '11m', '1h']) {
      assert.throws(() => hookTimeoutValue(bad), { code: 'commander.invalidArgument' }, bad);
    }
  });

  it('are watermarks, as fractions or sizes', () => {
    assert.deepEqual(watermarksValue('low=0.25,high=.5,full=1,drain-to=0'), {
      low: 0.25,
      high: 0.5,
      full: 1,
      drainTo: 0,
    });
    assert.deepEqual(watermarksValue('full=48M'), { full: 48 * 2 ** 20 });
    for (const bad of ['', 'low', 'low=', 'mid=0.5', 'low=half', 'low=0.5;high=1', 'low=-1']) {
      assert.throws(() => watermarksValue(bad), { code: 'commander.invalidArgument' }, bad);
    }
  });

  it('are sizes and rates in binary units', () => {
    assert.equal(sizeValue('64K'), 65_536);
    assert.equal(rateValue('100M/s'), 100 * 2 ** 20);
    for (const bad of ['fast', '-1', '0', '1KB']) {
      assert.throws(() => rateValue(bad), { code: 'commander.invalidArgument' }, bad);
    }
  });

  it('are block sizes that the contract knows', () => {
    assert.equal(blockSizeValue('4K'), 4096);
    assert.equal(blockSizeValue('1M'), 2 ** 20);
    for (const bad of ['2K', '2M', '5000', '0', 'x']) {
      assert.throws(() => blockSizeValue(bad), { code: 'commander.invalidArgument' }, bad);
    }
  });

  it('may be given several times', () => {
    assert.deepEqual(listValue('b', listValue('a')), ['a', 'b']);
  });

  it('are shown as times that people read', () => {
    assert.deepEqual([0, 1.25, 59.4, 59.6, 200, 7500].map(formatSeconds), [
      '0 s',
      '1.3 s',
      '59 s',
      '1 min 0 s',
      '3 min 20 s',
      '2 h 5 min',
    ]);
  });
});
