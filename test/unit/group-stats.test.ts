import assert from 'node:assert/strict';
import { sumStats } from '../../lib/group-stats.js';
import { type BackupStats, type DiskStats, STANDSTILL, toStats } from '../../lib/stats.js';
import { FakeSession } from '../helpers/fake-session.js';

const BLOCK = 65_536;

function stats(
  counts: FakeSession['figures'],
  counters: FakeSession['counters'],
  more: Partial<BackupStats> = {},
) {
  const session = new FakeSession();
  session.figures = counts;
  session.counters = counters;
  return { ...toStats(session.stats(), BLOCK, 3, { ...STANDSTILL, done: 1000 }), ...more };
}

const disk = (name: string, figures: BackupStats, state: DiskStats['state'] = 'running'): DiskStats => ({
  name,
  state,
  stats: figures,
});

describe('the figures of several disks', () => {
  const times = (bucket: number, count: number) =>
    Float64Array.from({ length: 32 }, (_, i) => (i === bucket ? count : 0));
  const none = times(0, 0);
  const a = stats(
    {
      ...{ listedBlocks: 10, doneBlocks: 4, slotsTotal: 8, slotsUsed: 2, armNs: 1e6, freezeNs: 0 },
      histograms: { capture: times(3, 90), delay: none, hold: none },
    },
    { captured: 90, captureNs: 720_000, captureMaxNs: 8_000, heldMaxNs: 5e6 },
    { seconds: 3, foreground: { latencyMs: 1, goalMs: 2 } },
  );
  const b = stats(
    {
      ...{
        listedBlocks: 6,
        doneBlocks: 6,
        slotsTotal: 4,
        slotsUsed: 4,
        armNs: 3e6,
        freezeNs: 7e6,
        memoryLocked: false,
      },
      histograms: { capture: times(10, 10), delay: none, hold: none },
    },
    { captured: 10, captureNs: 10_000_000, captureMaxNs: 1_000_000, heldMaxNs: 9e6, heldNow: 3 },
    {
      seconds: 2,
      sweepBytesPerSecond: 700,
      drainBytesPerSecond: 300,
      foreground: { latencyMs: 4, goalMs: 3 },
    },
  );
  const sum = sumStats([disk('a', a), disk('b', b)]);

  it('add up, and keep those of each', () => {
    assert.equal(sum.totalBytes, 16 * BLOCK);
    assert.equal(sum.doneBytes, 10 * BLOCK);
    assert.equal(sum.bytesPerSecond, 2000);
    assert.equal(sum.container.slots, 12);
    assert.equal(sum.writers.captured, 100);
    assert.deepEqual(sum.disks, [disk('a', a), disk('b', b)]);
  });

  it('have the longest of times and the fullest of containers', () => {
    assert.equal(sum.armMs, 3);
    assert.equal(sum.freezeMs, 7);
    assert.equal(sum.seconds, 3);
    assert.equal(sum.writers.heldMaxMs, 9);
    assert.equal(sum.container.fill, 1);
    assert.deepEqual(sum.foreground, b.foreground);
    assert.equal(sum.memory.locked, false);
    assert.equal(sum.secondsLeft, a.secondsLeft);
  });

  it('know how long it takes only if that is known of each', () => {
    const { secondsLeft, ...unknown } = a;
    assert.ok(secondsLeft !== undefined);
    assert.equal('secondsLeft' in sumStats([disk('a', unknown), disk('b', b)]), false);
  });

  for (const state of ['finishing', 'finished', 'broken', 'failed', 'aborted'] as const) {
    it(`of this moment are of those that still copy, and not of one that is ${state}`, () => {
      const slow = { ...b, secondsLeft: 1000 };
      const sum = sumStats([disk('a', a, 'paused'), disk('b', slow, state)]);
      assert.equal(sum.bytesPerSecond, a.bytesPerSecond);
      assert.equal(sum.sweepBytesPerSecond, a.sweepBytesPerSecond);
      assert.equal(sum.drainBytesPerSecond, a.drainBytesPerSecond);
      assert.equal(sum.secondsLeft, a.secondsLeft);
      assert.deepEqual(sum.foreground, a.foreground);
      assert.deepEqual([sum.container.fill, sum.container.slotsUsed], [0.25, 2]);
      assert.equal(sum.writers.heldNow, a.writers.heldNow);
      assert.deepEqual([sum.doneBytes, sum.writers.heldMaxMs], [10 * BLOCK, 9], 'what was done stays');
      const { secondsLeft, ...unknown } = slow;
      assert.equal(sumStats([disk('a', a), disk('b', unknown, state)]).secondsLeft, a.secondsLeft);
    });
  }

  it('of this moment are none when all have ended', () => {
    const ended = sumStats([disk('a', a, 'finished'), disk('b', b, 'broken')]);
    const { bytesPerSecond, secondsLeft, container, foreground } = ended;
    assert.deepEqual([bytesPerSecond, secondsLeft, container.fill], [0, 0, 0]);
    assert.deepEqual(foreground, {});
    assert.equal(ended.doneBytes, 10 * BLOCK);
  });

  it('have the percentiles of all times together', () => {
    const { count, p50Ms, p95Ms, maxMs, sumMs } = sum.latency.capture;
    assert.deepEqual({ count, p50Ms, p95Ms, maxMs }, { count: 100, p50Ms: 0.008, p95Ms: 1, maxMs: 1 });
    assert.ok(Math.abs(sumMs - 10.72) < 1e-9);
  });
});
