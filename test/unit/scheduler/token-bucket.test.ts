import assert from 'node:assert/strict';
import { TokenBucket } from '../../../lib/scheduler/token-bucket.js';

describe('TokenBucket', () => {
  it('earns at its rate', () => {
    const bucket = new TokenBucket(1000, 0, 0);
    assert.equal(bucket.available(100), 100);
    bucket.take(100);
    assert.equal(bucket.available(150), 50);
  });

  it('holds at most 200 ms of its rate, however long nobody asked', () => {
    const bucket = new TokenBucket(1000, 0, 0);
    assert.equal(bucket.available(60_000), 200);
  });

  it('holds at least its floor, so that a slow rate gets one unit at a time', () => {
    const bucket = new TokenBucket(1000, 4096, 0);
    assert.equal(bucket.available(4000), 4000);
    assert.equal(bucket.available(60_000), 4096);
  });

  it('keeps what was earned at the old rate when the rate changes', () => {
    const bucket = new TokenBucket(1000, 0, 0);
    bucket.setRate(10_000, 100);
    assert.equal(bucket.available(110), 100 + 100);
  });

  it('does not earn when the clock stands or goes back', () => {
    const bucket = new TokenBucket(1000, 0, 1000);
    assert.equal(bucket.available(1000), 0);
    assert.equal(bucket.available(500), 0);
  });
});
