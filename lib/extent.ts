/**
 * Byte ranges and sizes: what every part of the library says about places on a
 * device, and how people write them. Imports nothing.
 */

/** A byte range of a device or file. */
export interface Extent {
  /** First byte, from 0. */
  offset: number;
  /** Bytes. */
  length: number;
}

/** A rejected value in an error message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  return String(value);
}

/**
 * Checks a number of bytes.
 *
 * @param name how the argument is called in the error
 * @throws TypeError if `value` is no number; RangeError if it is not an
 *   integer from `minimum` to 2^53 - 1
 */
export function assertBytes(name: string, value: unknown, minimum = 0): asserts value is number {
  if (typeof value !== 'number') throw new TypeError(`${name} must be a number of bytes, got ${show(value)}`);
  if (!Number.isSafeInteger(value) || value < minimum) {
    throw new RangeError(`${name} must be an integer from ${minimum} to 2^53 - 1, got ${value}`);
  }
}

/**
 * Checks a byte range; its end has to be a safe integer too.
 *
 * @param name how the argument is called in the error
 * @throws TypeError for what is no `{ offset, length }` of numbers; RangeError
 *   for numbers that are not bytes, or with an end beyond 2^53 - 1
 */
export function assertExtent(name: string, value: unknown): asserts value is Extent {
  if (typeof value !== 'object' || value === null) {
    throw new TypeError(`${name} must be { offset, length } in bytes, got ${show(value)}`);
  }
  const { offset, length } = value as Partial<Extent>;
  // the names are put together only when needed: lists have millions of these
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 0) {
    assertBytes(`${name}.offset`, offset);
  } else if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 0) {
    assertBytes(`${name}.length`, length);
  } else if (!Number.isSafeInteger(offset + length)) {
    throw new RangeError(`${name} must end at or before 2^53 - 1, got offset ${offset} + length ${length}`);
  }
}

/** Offset, length, offset, length, …: extents as the addon takes them. */
export function flatten(extents: Iterable<Extent>): Float64Array {
  const list = Array.isArray(extents) ? (extents as Extent[]) : Array.from(extents);
  const flat = new Float64Array(2 * list.length);
  for (let i = 0; i < list.length; i++) {
    const extent = list[i]!;
    flat[2 * i] = extent.offset;
    flat[2 * i + 1] = extent.length;
  }
  return flat;
}

/** The same back. */
export function unflatten(flat: Float64Array): Extent[] {
  return Array.from({ length: flat.length / 2 }, (_, i) => ({
    offset: flat[2 * i]!,
    length: flat[2 * i + 1]!,
  }));
}

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'] as const;

/**
 * Bytes of a size as people write it: a number with an optional binary unit
 * (`K`, `M`, `G`, `T`, `P`, each with or without `iB`; case does not matter).
 * Decimal units (`KB`) are refused, because half of the world means 1024.
 *
 * @throws TypeError if `text` is no string; RangeError if it is no size, no
 *   whole number of bytes, or above 2^53 - 1
 * @example
 * parseSize('64K')   // 65536
 * parseSize('1.5G')  // 1610612736
 * parseSize('4096')  // 4096
 */
export function parseSize(text: string): number {
  if (typeof text !== 'string') throw new TypeError(`a size must be a string, got ${show(text)}`);
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGTP])(?:iB)?|B)?\s*$/i.exec(text);
  if (match === null) {
    const hint = /[KMGTP]B\s*$/i.test(text) ? ' (units are binary: write K or KiB)' : '';
    throw new RangeError(`not a size: ${show(text)}; expected e.g. 4096, 64K or 1.5GiB${hint}`);
  }
  const power = UNITS.indexOf((match[2] ?? '').toUpperCase() as (typeof UNITS)[number]);
  const bytes = Number(match[1]) * 1024 ** power;
  if (!Number.isInteger(bytes)) throw new RangeError(`not a whole number of bytes: ${show(text)}`);
  if (!Number.isSafeInteger(bytes)) throw new RangeError(`size above 2^53 - 1 bytes: ${show(text)}`);
  return bytes;
}

/**
 * A number of bytes for people, in binary units with at most two decimals.
 *
 * @example
 * formatSize(65536)  // '64 KiB'
 * formatSize(1500)   // '1.46 KiB'
 */
export function formatSize(bytes: number): string {
  let power = 0;
  let value = bytes;
  // 1023.995 would be shown as 1024.00
  while (power < UNITS.length - 1 && Math.abs(value) >= 1023.995) {
    value /= 1024;
    power++;
  }
  if (power === 0) return `${bytes} B`;
  return `${Number(value.toFixed(2))} ${UNITS[power]}iB`;
}
