/**
 * `@snapbak/core/prom-client`: the figures of running backups in a registry of
 * prom-client, an optional peer. Read when Prometheus asks, never before.
 *
 * Names by Prometheus' conventions: `snapbak_` first, base units, `_total` for
 * counters. https://prometheus.io/docs/practices/naming/
 *
 * @module @snapbak/core/prom-client
 */
import { Counter, register as defaultRegister, Gauge, type Metric, type Registry } from 'prom-client';
import { BUCKETS, boundMs } from '../histogram.js';
import { HISTOGRAMS, type HistogramMetric, type Measured, SCALARS, Sources, type Unit } from './table.js';

/** Tells a backup from the others of the process. */
export interface BackupLabels {
  /** The origin, or any name for it. */
  origin: string;
}

/** Backups whose figures the registry gives. */
export interface BackupMetrics {
  /** @returns what takes it away again; until then its last figures are given. */
  add(backup: Measured, labels: BackupLabels): () => void;
}

/**
 * Registers the metrics of backups; once a registry.
 *
 * @param register prom-client's default one, if absent.
 * @throws Error if the registry has metrics of these names.
 * @example
 * ```ts
 * const metrics = createBackupMetrics();
 * const remove = metrics.add(backup, { origin: '/dev/mapper/vg-data' });
 * await backup.finished.finally(remove);
 * ```
 */
export function createBackupMetrics(register: Registry = defaultRegister): BackupMetrics {
  const sources = new Sources<BackupLabels>();
  const common = { labelNames: ['origin'] as const, registers: [register] };
  for (const { kind, name, unit, help, value } of SCALARS) {
    if (kind === 'counter') {
      new Counter({
        ...common,
        name: `${prometheusName(name, unit)}_total`,
        help,
        collect() {
          this.reset();
          for (const { labels, stats } of sources) this.inc({ ...labels }, value(stats));
        },
      });
    } else {
      new Gauge({
        ...common,
        name: prometheusName(name, unit),
        help,
        collect() {
          this.reset();
          for (const { labels, stats } of sources) this.set({ ...labels }, value(stats));
        },
      });
    }
  }
  for (const metric of HISTOGRAMS) {
    // what a registry asks of a metric is these few members
    register.registerMetric(new CountedHistogram(metric, sources) as unknown as Metric);
  }
  return sources;
}

/** Words that a thing counted does not need: `_total` says enough. */
function prometheusName(name: string, unit: Unit): string {
  const suffixes: Record<Unit, string> = {
    bytes: '_bytes',
    'bytes per second': '_bytes_per_second',
    seconds: '_seconds',
    ratio: '_ratio',
    block: '_blocks',
    write: '',
  };
  return `snapbak_${name.replaceAll('.', '_')}${suffixes[unit]}`;
}

const BOUNDS = Array.from({ length: BUCKETS - 1 }, (_, bucket) => boundMs(bucket) / 1000);

/** A histogram whose counts are the driver's: prom-client's own takes single observations only. */
class CountedHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  readonly #metric: HistogramMetric;
  readonly #sources: Sources<BackupLabels>;

  constructor(metric: HistogramMetric, sources: Sources<BackupLabels>) {
    this.name = prometheusName(metric.name, metric.unit);
    this.help = metric.help;
    this.#metric = metric;
    this.#sources = sources;
  }

  async get() {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: [...this.#values()] };
  }

  /** Part of a registry's `resetMetrics()`; the counts are not ours to forget. */
  reset(): void {}

  *#values() {
    for (const { labels, stats } of this.#sources) {
      const { buckets, count, sumMs } = this.#metric.value(stats);
      let upTo = 0;
      for (const [bucket, le] of BOUNDS.entries()) {
        upTo += buckets[bucket] ?? 0;
        yield { metricName: `${this.name}_bucket`, labels: { ...labels, le }, value: upTo };
      }
      yield { metricName: `${this.name}_bucket`, labels: { ...labels, le: '+Inf' as const }, value: count };
      yield { metricName: `${this.name}_sum`, labels, value: sumMs / 1000 };
      yield { metricName: `${this.name}_count`, labels, value: count };
    }
  }
}
