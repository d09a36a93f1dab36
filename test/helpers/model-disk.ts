/**
 * What a disk may hold: each byte has its last written value, or that of an
 * attempt since then whose end nobody knows: a write that failed or was never
 * answered, and a discard, which may zero. Writes that overlap are issued one
 * after the other by the tests, so the model needs no more.
 */
const PIECE = 4096;

/** Bytes that may have been put there since the last write. */
interface Attempt {
  offset: number;
  length: number;
  /** From `offset` on; absent: zeroes. */
  data: Uint8Array | undefined;
}

export class ModelDisk {
  readonly bytes: Uint8Array;
  #attempts: Attempt[] = [];

  constructor(content: Uint8Array) {
    this.bytes = Uint8Array.from(content);
  }

  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
    this.#forget(offset, offset + data.length);
  }

  zero(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
    this.#forget(offset, offset + length);
  }

  discard(offset: number, length: number): void {
    this.#attempts.push({ offset, length, data: undefined });
  }

  /** A write (of zeroes, without `data`) that may have reached the disk, in whole, in part or not at all. */
  attempt(offset: number, length: number, data?: Uint8Array): void {
    this.#attempts.push({ offset, length, data });
  }

  /** The first byte of `data`, as read from `offset`, that is not possible, or undefined. */
  firstWrong(data: Uint8Array, offset: number): number | undefined {
    let first: number | undefined;
    this.#impossible(
      data,
      offset,
      offset + data.length,
      (at) => {
        first = at;
        return false;
      },
      offset,
    );
    return first;
  }

  /** How many bytes of `actual` in a range are not possible. */
  differences(actual: Uint8Array, from = 0, to = this.bytes.length): number {
    let count = 0;
    this.#impossible(actual, from, to, () => {
      count++;
      return true;
    });
    return count;
  }

  /** The first byte in a range at which `actual` is not possible, or undefined. */
  firstDifference(actual: Uint8Array, from = 0, to = this.bytes.length): number | undefined {
    if (actual.length !== this.bytes.length) return Math.min(actual.length, this.bytes.length);
    let first: number | undefined;
    this.#impossible(actual, from, to, (at) => {
      first = at;
      return false;
    });
    return first;
  }

  /** `base`: where `actual` begins. */
  #impossible(actual: Uint8Array, from: number, to: number, tell: (at: number) => boolean, base = 0): void {
    for (let at = from; at < to; at += PIECE) {
      const end = Math.min(to, at + PIECE);
      const piece = actual.subarray(at - base, end - base);
      if (Buffer.compare(this.bytes.subarray(at, end), piece) === 0) continue;
      for (let i = at; i < end; i++) {
        const value = piece[i - at]!;
        if (value !== this.bytes[i] && !this.#attempted(i, value) && !tell(i)) return;
      }
    }
  }

  #attempted(at: number, value: number): boolean {
    return this.#attempts.some(
      ({ offset, length, data }) =>
        at >= offset && at < offset + length && (data === undefined ? 0 : data[at - offset]) === value,
    );
  }

  /** What was attempted in a range before a write to it is not there any more. */
  #forget(from: number, to: number): void {
    if (!this.#attempts.some(({ offset, length }) => offset < to && offset + length > from)) return;
    this.#attempts = this.#attempts.flatMap((attempt) => {
      const { offset, length, data } = attempt;
      const end = offset + length;
      if (offset >= to || end <= from) return [attempt];
      const parts: Attempt[] = [];
      if (offset < from) parts.push({ offset, length: from - offset, data });
      if (end > to) parts.push({ offset: to, length: end - to, data: data?.subarray(to - offset) });
      return parts;
    });
  }
}

/** Bytes that differ from place to place and from run to run; never all zero. */
export function patternBytes(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = (state >>> 24) | 1;
  }
  return bytes;
}
