/**
 * Watermarks: the fill levels of the slots at which policies begin. Up to
 * `low` the sweep goes first; above it drain and spill do; from `high` to
 * `full` writers are to be slowed; at `full` they are held.
 */
import { expectOptions } from '../arguments.js';
import { assertBytes, show } from '../extent.js';

/**
 * Each a fraction of the slots (up to 1) or bytes (above 1). `low` acts; the
 * slow-down between `high` and `full` is not switched on yet: they are checked,
 * and writers are held when no slot is free.
 */
export interface Watermarks {
  /** Default: 0.5 */
  low?: number;
  /** Default: 0.75 */
  high?: number;
  /** Default: 1 */
  full?: number;
}

/** In slots. */
export interface ResolvedWatermarks {
  low: number;
  high: number;
  full: number;
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
  if (watermarks !== undefined) expectOptions('watermarks', watermarks, ['low', 'high', 'full']);
  const { low = 0.5, high = 0.75, full = 1 } = watermarks ?? {};
  const resolved = {
    low: toSlots('watermarks.low', low, slots, blockSize, 0),
    high: toSlots('watermarks.high', high, slots, blockSize, 0),
    full: toSlots('watermarks.full', full, slots, blockSize, 1),
  };
  if (resolved.low > resolved.high || resolved.high > resolved.full) {
    throw new RangeError(
      `watermarks must be in the order low <= high <= full, got low ${low}, high ${high}, full ${full} ` +
        `(${resolved.low}, ${resolved.high} and ${resolved.full} of ${slots} slots)`,
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
