/**
 * Set algebra of block lists, before a backup starts. A set of bytes is kept
 * as its boundaries: the ascending positions at which membership changes
 * (start, end, start, end, …), each strictly above the one before. Every
 * operation is one linear pass over typed arrays.
 */

/** Strictly ascending, of even length. */
export type Boundaries = Float64Array;

/** Truth tables over (in a) + 2 * (in b): bit i is set if case i belongs to the result. */
export const UNION = 0b1110;
export const INTERSECTION = 0b1000;
export const DIFFERENCE = 0b0010;

/** All bytes for which `table` says yes. */
export function combine(a: Boundaries, b: Boundaries, table: number): Boundaries {
  const out = new Float64Array(a.length + b.length);
  let used = 0;
  let i = 0;
  let j = 0;
  let inside = 0;
  while (i < a.length || j < b.length) {
    const nextA = i < a.length ? a[i]! : Infinity;
    const nextB = j < b.length ? b[j]! : Infinity;
    const position = Math.min(nextA, nextB);
    if (nextA === position) i++;
    if (nextB === position) j++;
    // an odd count of boundaries passed means inside
    const now = (table >> ((i & 1) | ((j & 1) << 1))) & 1;
    if (now !== inside) {
      out[used++] = position;
      inside = now;
    }
  }
  return out.slice(0, used);
}

/**
 * The union of ranges in any order, given as their starts and their ends
 * (which this sorts in place). Which end belongs to which start does not
 * matter: a byte is covered where more ranges have begun than ended.
 */
export function cover(starts: Float64Array, ends: Float64Array): Boundaries {
  if (!ascending(starts)) starts.sort();
  if (!ascending(ends)) ends.sort();
  const out = new Float64Array(2 * starts.length);
  let used = 0;
  let end = 0;
  for (let start = 0; start < starts.length; ) {
    out[used++] = starts[start++]!;
    // ranges that touch are one: the next start wins over an equal end
    while (end < start) {
      if (start < starts.length && starts[start]! <= ends[end]!) start++;
      else end++;
    }
    out[used++] = ends[end - 1]!;
  }
  return out.slice(0, used);
}

function ascending(values: Float64Array): boolean {
  for (let i = 1; i < values.length; i++) if (values[i]! < values[i - 1]!) return false;
  return true;
}

/** Every run widened to multiples of `blockSize`, then cut at `size`. */
export function align(a: Boundaries, blockSize: number, size: number): Boundaries {
  const out = new Float64Array(a.length);
  let used = 0;
  for (let i = 0; i < a.length; i += 2) {
    // exact: below 2^53 the rounding of a quotient never reaches the next integer
    const start = Math.floor(a[i]! / blockSize) * blockSize;
    if (start >= size) break;
    const end = Math.min(Math.ceil(a[i + 1]! / blockSize) * blockSize, size);
    if (used > 0 && start <= out[used - 1]!) out[used - 1] = end;
    else {
      out[used++] = start;
      out[used++] = end;
    }
  }
  return out.slice(0, used);
}

/** How many boundaries lie at or before `position`; odd means that it is a member. */
export function passed(a: Boundaries, position: number): number {
  let low = 0;
  let high = a.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (a[middle]! <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}
