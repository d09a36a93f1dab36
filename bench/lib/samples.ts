/** Measurements of one benchmark by test and contender, one a round, and the table that they make. */
import type { FioResult } from './fio.js';
import { median, ratio, spread } from './statistics.js';
import { figure, table } from './table.js';

export class Samples {
  readonly #all = new Map<string, Map<string, FioResult[]>>();

  add(test: string, contender: string, result: FioResult): void {
    const contenders = this.#all.get(test) ?? new Map<string, FioResult[]>();
    this.#all.set(test, contenders);
    contenders.set(contender, [...(contenders.get(contender) ?? []), result]);
  }

  iops(test: string, contender: string): number[] {
    return (this.#all.get(test)?.get(contender) ?? []).map((result) => result.iops);
  }

  /** Median of the ratios inside a round. */
  ratio(test: string, contender: string, base: string): number {
    return ratio(this.iops(test, contender), this.iops(test, base));
  }

  /** The same of median latencies. */
  p50Ratio(test: string, contender: string, base: string): number {
    const p50 = (of: string) => (this.#all.get(test)?.get(of) ?? []).map((result) => result.p50);
    return ratio(p50(contender), p50(base));
  }

  /** One line a test and contender, with the ratio to each of `bases`. */
  table(bases: Record<string, string>): string {
    const rows = [...this.#all].flatMap(([test, contenders]) =>
      [...contenders].map(([contender, results]) => [
        test,
        contender,
        figure(median(results.map((result) => result.iops))),
        figure(median(results.map((result) => result.mibps))),
        figure(median(results.map((result) => result.p50))),
        figure(median(results.map((result) => result.p99))),
        `${Math.round(spread(results.map((result) => result.iops)))} %`,
        ...Object.values(bases).map((base) => {
          const times = this.ratio(test, contender, base);
          return Number.isNaN(times) ? '-' : `x${times.toFixed(2)}`;
        }),
      ]),
    );
    const header = ['test', 'contender', 'IOPS', 'MiB/s', 'p50 us', 'p99 us', 'spread'];
    return table([...header, ...Object.keys(bases).map((name) => `to ${name}`)], rows);
  }

  toJSON(): unknown {
    return Object.fromEntries([...this.#all].map(([test, by]) => [test, Object.fromEntries(by)]));
  }
}
