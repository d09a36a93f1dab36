import assert from 'node:assert/strict';
import { Speedometer, SpeedPanel, STANDSTILL, toStats } from '../../lib/stats.js';
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

describe('SpeedPanel', () => {
  const session = new FakeSession();
  const at = (figures: FakeSession['figures']) => {
    session.figures = figures;
    return session.stats();
  };

  it('tells what the sweep took and what left the container apart', () => {
    const panel = new SpeedPanel(1000);
    panel.sample(0, at({}));
    const captured = { capturedBlocks: 30, slotsUsed: 10, tier2Used: 12 };
    const speeds = panel.sample(1000, at({ ...captured, doneBlocks: 58, sweptBlocks: 50 }));
    assert.deepEqual(speeds, { done: 58_000, sweep: 50_000, drain: 8_000 });
  });

  it('never tells of a drain below nothing', () => {
    const panel = new SpeedPanel(1000);
    panel.sample(0, at({ capturedBlocks: 1 }));
    assert.equal(panel.sample(1000, at({ capturedBlocks: 1, slotsUsed: 1 })).drain, 0);
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
      { ...STANDSTILL, done: 4096 },
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
    assert.equal(toStats(native(both), 4096, 0, STANDSTILL).container.fill, 0.25);
    assert.equal(toStats(native({}), 4096, 0, STANDSTILL).container.fill, 0);
  });

  it('has the figures of each second tier, by its name', () => {
    const tiers = [
      { total: 4, used: 6, lost: false }, // it shrinks
      { total: 9, used: 2, lost: true },
    ];
    const of = native({ slotsTotal: 1, slotsUsed: 1, tier2Total: 4, tier2Used: 6, tiers });
    const { container } = toStats(of, 4096, 0, STANDSTILL, { tiers: ['file /a'] });
    assert.deepEqual(container.tiers, [
      { description: 'file /a', capacityBytes: 16_384, usedBytes: 24_576, lost: false },
      { description: 'second tier 2', capacityBytes: 36_864, usedBytes: 8192, lost: true },
    ]);
    assert.equal(container.fill, 1);
  });

  it('leaves the time left open while no speed is known, and says 0 when all is done', () => {
    assert.equal('secondsLeft' in toStats(native({ listedBlocks: 1 }), 4096, 0, STANDSTILL), false);
    assert.equal(toStats(native({ listedBlocks: 1, doneBlocks: 1 }), 4096, 0, STANDSTILL).secondsLeft, 0);
  });
});
