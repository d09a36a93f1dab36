/** Whether a figure that is taken after each session stays where it is. */
import { median } from '../../bench/lib/statistics.js';

export interface Flatness {
  /** Medians of the second and of the last third of the samples. */
  middle: number;
  last: number;
  /** What the trend of these two thirds adds from their beginning to their end. */
  trend: number;
  /** The most that `last - middle` and `trend` may be. */
  bound: number;
  flat: boolean;
}

/** Fewer samples tell nothing. */
export const MIN_SAMPLES = 9;

/**
 * The first third is for warming up: code is compiled, pools are filled. The
 * trend is the median of the slopes between pairs of samples half their number
 * apart (after H. Theil, 1950): a few that stick out do not move it.
 */
export function flatness(samples: readonly number[], bound: number): Flatness {
  const third = Math.floor(samples.length / 3);
  const settled = samples.slice(third);
  const middle = median(samples.slice(third, samples.length - third));
  const last = median(samples.slice(samples.length - third));
  const half = Math.floor(settled.length / 2);
  const rises = settled.slice(half).map((value, i) => value - settled[i]!);
  const trend = half === 0 ? 0 : (median(rises) / half) * (settled.length - 1);
  const flat = samples.length >= MIN_SAMPLES && last - middle <= bound && trend <= bound;
  return { middle, last, trend, bound, flat };
}

const BARS = '▁▂▃▄▅▆▇█';

/** The samples as a row of bars between their least and their most; each bar is the most of its part. */
export function sparkline(samples: readonly number[], width = 60): string {
  const columns = Math.min(width, samples.length);
  const heights = Array.from({ length: columns }, (_, i) => {
    const from = Math.floor((i * samples.length) / columns);
    return Math.max(...samples.slice(from, Math.floor(((i + 1) * samples.length) / columns)));
  });
  const least = Math.min(...heights);
  const span = Math.max(...heights) - least || 1;
  return heights.map((height) => BARS[Math.round(((height - least) / span) * (BARS.length - 1))]).join('');
}
