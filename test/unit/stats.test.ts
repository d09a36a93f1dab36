import assert from 'node:assert/strict';
import { Speedometer, toStats } from '../../lib/stats.js';
import { FakeSession } from '../helpers/fake-session.js';

describe('Speedometer', () => {
  it('knows no speed from one sample', () => {
    assert.equal(new Speedometer().sample(0, 100), 0);
  });

  it('tells the speed of the last three seconds, not of the whole backup', () => {
    const speed = new Speedometer();
    let last = 0;
    for (let at = 0; at <= 10_000; at += 250) last = speed.sample(at, at < 5000 ? 0 : (at - 5000) * 4);
    assert.equal(last, 4000);
  });
});

describe('toStats', () => {
  const native = (figures: FakeSession['figures'], counters: FakeSession['counters'] = {}) => {
    const session = new FakeSession();
    session.figures = figures;
    session.counters = counters;
    return session.stats();
  };

  it('turns blocks into bytes and nanoseconds into milliseconds', () => {
    const stats = toStats(
      native({ listedBlocks: 10, doneBlocks: 4, invalidBlocks: 1 }, { heldMaxNs: 2_500_000, eagain: 3 }),
      4096,
      7,
      4096,
    );
    assert.equal(stats.totalBytes, 40_960);
    assert.equal(stats.doneBytes, 16_384);
    assert.equal(stats.secondsLeft, 5);
    assert.equal(stats.writers.heldMaxMs, 2.5);
    assert.equal(stats.writers.refused, 3);
    assert.equal(stats.seconds, 7);
  });

  it('fills over both tiers, and is empty where there is no container', () => {
    const both = { slotsTotal: 10, slotsUsed: 5, tier2Total: 30, tier2Used: 5 };
    assert.equal(toStats(native(both), 4096, 0, 0).container.fill, 0.25);
    assert.equal(toStats(native({}), 4096, 0, 0).container.fill, 0);
  });

  it('leaves the time left open while no speed is known, and says 0 when all is done', () => {
    assert.equal('secondsLeft' in toStats(native({ listedBlocks: 1 }), 4096, 0, 0), false);
    assert.equal(toStats(native({ listedBlocks: 1, doneBlocks: 1 }), 4096, 0, 0).secondsLeft, 0);
  });
});
