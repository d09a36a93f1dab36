import assert from 'node:assert/strict';
import fc from 'fast-check';
import { resolveWatermarks } from '../../../lib/container/watermarks.js';

describe('watermarks', () => {
  it('are half, three quarters and all of the slots by default, and drained to the high one', () => {
    const defaults = { low: 500, high: 750, full: 1000, drainTo: 750 };
    assert.deepEqual(resolveWatermarks(undefined, 1000, 4096), defaults);
    assert.deepEqual(resolveWatermarks({}, 1000, 4096), defaults);
    assert.deepEqual(resolveWatermarks({}, 1, 4096), { low: 0, high: 0, full: 1, drainTo: 0 });
  });

  it('are fractions up to 1, and bytes above', () => {
    assert.deepEqual(resolveWatermarks({ low: 0, high: 0.1, full: 40_960 }, 100, 4096), {
      low: 0,
      high: 10,
      full: 10,
      drainTo: 10,
    });
    assert.deepEqual(resolveWatermarks({ low: 8192, high: 12_000, drainTo: 0.75 }, 4, 4096), {
      low: 2,
      high: 2,
      full: 4,
      drainTo: 3,
    });
  });

  it('stay in order and within the slots for any fractions in order', () => {
    const fraction = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(
        fc.tuple(fraction, fraction, fraction),
        fc.integer({ min: 1, max: 2 ** 20 }),
        (fractions, slots) => {
          const [low, high, full] = fractions.sort((a, b) => a - b);
          const resolved = resolveWatermarks({ low: low!, high: high!, full: full! }, slots, 4096);
          assert.ok(0 <= resolved.low && resolved.low <= resolved.high && resolved.high <= resolved.full);
          assert.ok(1 <= resolved.full && resolved.full <= slots);
        },
      ),
    );
  });

  it('are refused by name and value', () => {
    const error = (watermarks: object, name: string, message: RegExp) =>
      assert.throws(() => resolveWatermarks(watermarks, 10, 4096), { name, message });
    error({ low: '50%' }, 'TypeError', /watermarks\.low must be a number.*"50%"/);
    error({ high: -0.1 }, 'RangeError', /watermarks\.high .*got -0\.1/);
    error({ full: Number.NaN }, 'RangeError', /watermarks\.full .*got NaN/);
    error({ full: 40_961 }, 'RangeError', /watermarks\.full .*up to 40960 bytes.*got 40961/);
    error({ low: 0.9 }, 'RangeError', /in the order low <= high <= full, got low 0\.9, high 0\.75, full 1/);
    error(
      { drainTo: 0.4 },
      'RangeError',
      /drainTo must be from low to full, got low 0\.5, drainTo 0\.4, full 1/,
    );
    error({ full: 0.8, drainTo: 0.9 }, 'RangeError', /drainTo must be from low to full/);
    error({ mid: 1 }, 'TypeError', /mid/);
  });
});
