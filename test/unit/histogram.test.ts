import assert from 'node:assert/strict';
import { BUCKETS, boundMs, toLatency } from '../../lib/histogram.js';

const counts = (some: Record<number, number>) =>
  Float64Array.from({ length: BUCKETS }, (_, bucket) => some[bucket] ?? 0);

describe('toLatency', () => {
  it('is nothing at all of nothing', () => {
    assert.deepEqual(toLatency(counts({}), 0, 0), {
      count: 0,
      sumMs: 0,
      p50Ms: 0,
      p95Ms: 0,
      p99Ms: 0,
      maxMs: 0,
      buckets: [],
    });
  });

  it('takes a percentile for the upper bound of its bucket', () => {
    const latency = toLatency(counts({ 3: 50, 6: 45, 10: 4, 13: 1 }), 30e6, 8.1e6);
    assert.equal(latency.count, 100);
    assert.equal(latency.sumMs, 30);
    assert.equal(latency.p50Ms, 0.008);
    assert.equal(latency.p95Ms, 0.064);
    assert.equal(latency.p99Ms, 1.024);
    assert.equal(latency.maxMs, 8.1);
  });

  it('tells of no time that is longer than the longest', () => {
    const { p50Ms, p99Ms } = toLatency(counts({ 12: 1 }), 2.5e6, 2.5e6);
    assert.deepEqual([p50Ms, p99Ms], [2.5, 2.5]);
    const endless = toLatency(counts({ [BUCKETS - 1]: 3 }), 9e15, 4e15);
    assert.equal(endless.p50Ms, 4e9);
  });

  it('leaves out the empty buckets at the end, and those alone', () => {
    assert.deepEqual(toLatency(counts({ 1: 2, 3: 1 }), 9000, 8000).buckets, [0, 2, 0, 1]);
  });
});

describe('boundMs', () => {
  it('doubles from a microsecond on, and the last bucket has no end', () => {
    assert.equal(boundMs(0), 0.001);
    assert.equal(boundMs(10), 1.024);
    assert.equal(boundMs(BUCKETS - 1), Number.POSITIVE_INFINITY);
  });
});
