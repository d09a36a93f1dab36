/**
 * Checks of arguments at the public surface: misuse is a `TypeError` or a
 * `RangeError` that names the argument and the value.
 */
import { show } from './extent.js';

/** Throws a `TypeError` unless `value` is one of these types. */
export function expectType(
  name: string,
  value: unknown,
  type: 'string' | 'boolean' | 'function' | 'object',
): void {
  const fits = type === 'object' ? typeof value === 'object' && value !== null : typeof value === type;
  if (!fits) throw new TypeError(`${name} must be a ${type}, not ${show(value)}`);
}

/** Throws unless `value` is an integer from `min` to `max`, both included. */
export function expectInteger(
  name: string,
  value: unknown,
  min = 0,
  max = Number.MAX_SAFE_INTEGER,
): asserts value is number {
  if (typeof value !== 'number') throw new TypeError(`${name} must be a number, not ${show(value)}`);
  if (!Number.isSafeInteger(value)) throw new RangeError(`${name} must be an integer, not ${show(value)}`);
  if (value < min || value > max) {
    throw new RangeError(`${name} must be from ${min} to ${max}, not ${value}`);
  }
}

/** Throws unless `value` is one of `choices`. */
export function expectOneOf(name: string, value: unknown, choices: readonly string[]): void {
  if (typeof value !== 'string') throw new TypeError(`${name} must be a string, not ${show(value)}`);
  if (!choices.includes(value)) {
    throw new RangeError(`${name} must be one of ${choices.join(', ')}, not ${show(value)}`);
  }
}

/** Throws unless `options` is an object whose keys are all known; a misspelt option is a mistake, not a wish. */
export function expectOptions(name: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new TypeError(`${name} must be an object, not ${show(options)}`);
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      throw new TypeError(`${name}.${key} is not an option; the options are ${known.join(', ')}`);
    }
  }
}

/** Throws unless `offset` and `length` lie inside a device of `size` bytes. */
export function expectInside(offset: unknown, length: unknown, size: number): void {
  expectInteger('offset', offset);
  expectInteger('length', length);
  if (offset > size || length > size - offset) {
    throw new RangeError(`offset ${offset} + length ${length} is past the end of the device (${size} bytes)`);
  }
}

/** Throws a `TypeError` unless `value` has the method; `what` says what it must be. */
export function expectMethod(name: string, value: unknown, method: string, what: string): void {
  const found = (value as Record<string, unknown> | null | undefined)?.[method];
  if (typeof found !== 'function') throw new TypeError(`${name} must be ${what}, not ${show(value)}`);
}
