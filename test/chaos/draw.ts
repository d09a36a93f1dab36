/** A row of random numbers that is the same for the same seeds. */
import { seeded } from '../helpers/images.js';

export class Draw {
  readonly #below: (below: number) => number;

  constructor(...seeds: number[]) {
    // neighbouring seeds must not give neighbouring rows
    const mixed = seeds.reduce((state, seed) => {
      const x = Math.imul(state ^ seed, 0x85ebca6b);
      return Math.imul(x ^ (x >>> 13), 0xc2b2ae35) ^ (x >>> 16);
    }, 0x2545f491);
    this.#below = seeded(mixed);
  }

  /** A whole number from `from` to `to`, both included. */
  int(from: number, to: number): number {
    return from + this.#below(to - from + 1);
  }

  /** From 0 to 1. */
  fraction(): number {
    return this.#below(65_537) / 65_536;
  }

  chance(probability: number): boolean {
    return this.#below(65_536) < probability * 65_536;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }

  /** One of the names, each as often as its number says. */
  weighted<T extends string>(weights: Partial<Record<T, number>>): T {
    const entries = Object.entries(weights) as [T, number][];
    let at = this.#below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [name, weight] of entries) {
      if (at < weight) return name;
      at -= weight;
    }
    throw new RangeError('no weights');
  }
}
