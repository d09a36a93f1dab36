/**
 * What a disk may hold: each byte has its last written value, or, after a
 * discard, either that or zero. Writes that overlap are issued one after the
 * other by the tests, so the model needs no more.
 */
export class ModelDisk {
  readonly bytes: Uint8Array;
  readonly #maybeZero: Uint8Array;

  constructor(content: Uint8Array) {
    this.bytes = Uint8Array.from(content);
    this.#maybeZero = new Uint8Array(content.length);
  }

  write(offset: number, data: Uint8Array): void {
    this.bytes.set(data, offset);
    this.#maybeZero.fill(0, offset, offset + data.length);
  }

  zero(offset: number, length: number): void {
    this.write(offset, new Uint8Array(length));
  }

  discard(offset: number, length: number): void {
    this.#maybeZero.fill(1, offset, offset + length);
  }

  /** The first byte at which `actual` is not possible, or undefined. */
  firstDifference(actual: Uint8Array): number | undefined {
    if (actual.length !== this.bytes.length) return Math.min(actual.length, this.bytes.length);
    for (let i = 0; i < actual.length; i++) {
      if (actual[i] !== this.bytes[i] && !(actual[i] === 0 && this.#maybeZero[i] === 1)) return i;
    }
    return undefined;
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
