/**
 * `@snapbak/core/opentelemetry`: the figures of running backups as instruments
 * of a meter of `@opentelemetry/api`, an optional peer. Read when a reader
 * collects, never before.
 *
 * Names by OpenTelemetry's conventions: dots, units in UCUM.
 * https://opentelemetry.io/docs/specs/semconv/general/metrics/
 * Its API takes no finished histogram, so that each of ours is a counter, a sum
 * and a gauge with the attribute `quantile` (0.5, 0.95, 0.99; 1: the longest).
 *
 * @module @snapbak/core/opentelemetry
 */
import { type Attributes, type Meter, metrics, type Observable } from '@opentelemetry/api';
import type { BackupStats } from '../stats.js';
import { HISTOGRAMS, type Measured, SCALARS, Sources, type Unit } from './table.js';

/** Backups whose figures the meter gives. */
export interface BackupMetrics {
  /**
   * @param attributes what tells it from the others, e.g. `{ 'snapbak.origin': '/dev/mapper/vg-data' }`.
   * @returns what takes it away again; until then its last figures are given.
   */
  add(backup: Measured, attributes: Attributes): () => void;
}

const UNITS: Record<Unit, string> = {
  bytes: 'By',
  'bytes per second': 'By/s',
  seconds: 's',
  ratio: '1',
  block: '{block}',
  write: '{write}',
};

/**
 * Makes the instruments of backups; once a meter.
 *
 * @param meter `snapbak` of the global provider, if absent.
 * @example
 * ```ts
 * const metrics = createBackupMetrics();
 * const remove = metrics.add(backup, { 'snapbak.origin': '/dev/mapper/vg-data' });
 * await backup.finished.finally(remove);
 * ```
 */
export function createBackupMetrics(meter: Meter = metrics.getMeter('snapbak')): BackupMetrics {
  const sources = new Sources<Attributes>();
  const read: { instrument: Observable; value(stats: BackupStats): number; quantile?: number }[] = [];
  for (const { kind, name, unit, help, value } of SCALARS) {
    const options = { description: help, unit: UNITS[unit] };
    const instrument =
      kind === 'counter'
        ? meter.createObservableCounter(`snapbak.${name}`, options)
        : meter.createObservableGauge(`snapbak.${name}`, options);
    read.push({ instrument, value });
  }
  for (const { name, help, value } of HISTOGRAMS) {
    const options = { description: help, unit: 's' };
    const count = meter.createObservableCounter(`snapbak.${name}.count`, { description: help, unit: '1' });
    const sum = meter.createObservableCounter(`snapbak.${name}.sum`, options);
    const quantiles = meter.createObservableGauge(`snapbak.${name}.quantile`, options);
    read.push(
      { instrument: count, value: (stats) => value(stats).count },
      { instrument: sum, value: (stats) => value(stats).sumMs / 1000 },
      { instrument: quantiles, quantile: 0.5, value: (stats) => value(stats).p50Ms / 1000 },
      { instrument: quantiles, quantile: 0.95, value: (stats) => value(stats).p95Ms / 1000 },
      { instrument: quantiles, quantile: 0.99, value: (stats) => value(stats).p99Ms / 1000 },
      { instrument: quantiles, quantile: 1, value: (stats) => value(stats).maxMs / 1000 },
    );
  }
  meter.addBatchObservableCallback(
    (result) => {
      for (const { labels, stats } of sources) {
        for (const { instrument, value, quantile } of read) {
          result.observe(instrument, value(stats), quantile === undefined ? labels : { ...labels, quantile });
        }
      }
    },
    [...new Set(read.map(({ instrument }) => instrument))],
  );
  return sources;
}
