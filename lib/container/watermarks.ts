/**
 * Watermarks: the fill levels of the slots at which policies begin. Up to
 * `low` the sweep goes first; above it drain and spill do; from `high` on
 * writes that need a capture are slowed down; at `full` they are held, until
 * drained slots have brought the fill down to `drainTo`.
 */
import { expectOptions } from '../arguments.js';
import { assertBytes, show } from '../extent.js';

/**
 * Each a fraction of the slots (up to 1) or bytes (above 1), in the order
 * low <= drainTo <= full and low <= high <= full.
 */
export interface Watermarks {
  /** Above it drain and spill go before the sweep. Default: 0.5 */
  low?: number;
  /** Above it writes that need a capture are delayed, the more the fuller. Default: 0.75 */
  high?: number;
  /** So many slots are used, and no more. Default: 1 */
  full?: number;
  /** Once the container was full, no slot is given out again before the fill is down to this. Default: `high` */
  drainTo?: number;
}

/** In slots. */
export interface ResolvedWatermarks {
  low: number;
  high: number;
  full: number;
  drainTo: number;
}

/**
 * Watermarks in slots.
 *
 * @param blockSize bytes of a slot, for those that are given in bytes
 * @throws TypeError for what is no number; RangeError for what is negative,
 *   above the slots, or out of the order low, high, full
 */
export function resolveWatermarks(
  watermarks: Watermarks | undefined,
  slots: number,
  blockSize: number,
): ResolvedWatermarks {
  assertBytes('slots', slots, 1);
  assertBytes('blockSize', blockSize, 1);
  if (watermarks !== undefined) expectOptions('watermarks', watermarks, ['low', 'high', 'full', 'drainTo']);
  const { low = 0.5, high = 0.75, full = 1 } = watermarks ?? {};
  const { drainTo = high } = watermarks ?? {};
  const resolved = {
    low: toSlots('watermarks.low', low, slots, blockSize, 0),
    high: toSlots('watermarks.high', high, slots, blockSize, 0),
    full: toSlots('watermarks.full', full, slots, blockSize, 1),
    drainTo: toSlots('watermarks.drainTo', drainTo, slots, blockSize, 0),
  };
  if (resolved.low > resolved.high || resolved.high > resolved.full) {
    throw new RangeError(
      `watermarks must be in the order low <= high <= full, got low ${low}, high ${high}, full ${full} ` +
        `(${resolved.low}, ${resolved.high} and ${resolved.full} of ${slots} slots)`,
    );
  }
  if (resolved.drainTo < resolved.low || resolved.drainTo > resolved.full) {
    throw new RangeError(
      `watermarks.drainTo must be from low to full, got low ${low}, drainTo ${drainTo}, full ${full} ` +
        `(${resolved.low}, ${resolved.drainTo} and ${resolved.full} of ${slots} slots)`,
    );
  }
  return resolved;
}

function toSlots(name: string, value: unknown, slots: number, blockSize: number, minimum: number): number {
  if (typeof value !== 'number') throw new TypeError(`${name} must be a number, not ${show(value)}`);
  if (!(value >= 0) || value > slots * blockSize) {
    throw new RangeError(
      `${name} must be a fraction from 0 to 1, or up to ${slots * blockSize} bytes (the slots), got ${value}`,
    );
  }
  return Math.max(minimum, Math.floor(value <= 1 ? value * slots : value / blockSize));
}
