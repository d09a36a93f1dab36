/**
 * How long things took, of the histograms in the shared header: percentiles for
 * people, buckets for programs. What a bucket counts is said in
 * kernel-module/include/uapi/linux/snapbak.h, and the same for every driver.
 */

/** How long captures, delays or holds took. Milliseconds. */
export interface LatencyStats {
  /** How many. */
  count: number;
  /** All of them, summed. */
  sumMs: number;
  /**
   * Half of them took no longer, 95 and 99 of a hundred took no longer. It is
   * the upper bound of a bucket, or the longest time where that is less: the
   * truth is at most this, and above half of that bound. But the first bucket
   * begins at 0, and the last one has no bound, so the longest time stands for
   * whatever is above 2^30 microseconds. 0 where nothing was counted.
   */
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  /** The longest, exactly. */
  maxMs: number;
  /**
   * Element 0 counts those up to 1 microsecond, element i those above 2^(i - 1)
   * and up to 2^i microseconds, element 31 all above 2^30. Zeroes at the end are
   * left out.
   */
  buckets: number[];
}

/** Buckets of a histogram; the last one has no upper bound. */
export const BUCKETS = 32;

const NS_PER_MS = 1e6;

/** Upper bound of a bucket in milliseconds; infinite for the last. */
export function boundMs(bucket: number): number {
  return bucket < BUCKETS - 1 ? 2 ** bucket / 1000 : Number.POSITIVE_INFINITY;
}

/** @param buckets counts, all of them. */
export function toLatency(buckets: Float64Array, sumNs: number, maxNs: number): LatencyStats {
  const count = buckets.reduce((sum, n) => sum + n, 0);
  const maxMs = maxNs / NS_PER_MS;
  const upTo = (part: number) => {
    let left = Math.ceil(count * part);
    if (left === 0) return 0;
    const bucket = buckets.findIndex((n) => {
      left -= n;
      return left <= 0;
    });
    return Math.min(boundMs(bucket), maxMs);
  };
  return {
    count,
    sumMs: sumNs / NS_PER_MS,
    p50Ms: upTo(0.5),
    p95Ms: upTo(0.95),
    p99Ms: upTo(0.99),
    maxMs,
    buckets: [...buckets.subarray(0, buckets.findLastIndex((n) => n > 0) + 1)],
  };
}
