/**
 * What a monitoring system may ask of a backup: one table, by which the
 * adapters register metrics with the names of their own field.
 */
import type { LatencyStats } from '../histogram.js';
import type { BackupStats } from '../stats.js';

/** Base units; the other ones are things that are counted. */
export type Unit = 'bytes' | 'bytes per second' | 'seconds' | 'ratio' | 'block' | 'write';

interface Described {
  /** Words, dots between them. */
  name: string;
  help: string;
  unit: Unit;
}

export interface ScalarMetric extends Described {
  /** A counter never falls during a backup, and begins at 0 with the next. */
  kind: 'counter' | 'gauge';
  value(stats: BackupStats): number;
}

export interface HistogramMetric extends Described {
  kind: 'histogram';
  unit: 'seconds';
  value(stats: BackupStats): LatencyStats;
}

export const SCALARS: readonly ScalarMetric[] = [
  gauge('listed', 'bytes', 'Bytes of the block list.', (s) => s.totalBytes),
  counter('done', 'bytes', 'Of these, bytes that are in the target.', (s) => s.doneBytes),
  counter('invalid', 'block', 'Blocks that could not be read from the origin.', (s) => s.invalidBlocks),
  counter('read', 'bytes', 'Bytes that the sweep read from the origin.', (s) => s.readBytes),
  counter('written', 'bytes', 'Bytes written to the target.', (s) => s.writtenBytes),
  counter('captured', 'block', 'Blocks captured before a write changed them.', (s) => s.writers.captured),
  counter('spilled', 'block', 'Blocks moved to the second tier.', (s) => s.spilledBlocks),
  counter('wanted', 'block', 'Blocks copied first because a write was held.', (s) => s.wantedBlocks),
  gauge('sweep.rate', 'bytes per second', 'Taken by the sweep lately.', (s) => s.sweepBytesPerSecond),
  gauge('drain.rate', 'bytes per second', 'Drained to the target lately.', (s) => s.drainBytesPerSecond),
  gauge(
    'sweep.limit',
    'bytes per second',
    'What the sweep is limited to for the application; 0: not at all.',
    (s) => s.foreground.sweepLimit ?? 0,
  ),
  gauge(
    'foreground.latency',
    'seconds',
    "Mean time of the application's requests; 0: there were none lately.",
    (s) => (s.foreground.latencyMs ?? 0) / 1000,
  ),
  gauge('container.slots.capacity', 'bytes', 'Memory of the container.', (s) => s.container.capacityBytes),
  gauge('container.slots.used', 'bytes', 'Of it, in use.', (s) => s.container.usedBytes),
  gauge('container.fill', 'ratio', 'Fill of the whole container, 0 to 1.', (s) => s.container.fill),
  counter('writes.delayed', 'write', 'Writes that the throttle delayed.', (s) => s.writers.delayed),
  gauge('writes.delayed.now', 'write', 'Writes delayed at this moment.', (s) => s.writers.delayedNow),
  counter('writes.held', 'write', 'Writes held for want of a slot.', (s) => s.writers.held),
  gauge('writes.held.now', 'write', 'Writes held at this moment.', (s) => s.writers.heldNow),
];

export const HISTOGRAMS: readonly HistogramMetric[] = [
  histogram('capture.duration', 'Time to capture a block.', (s) => s.latency.capture),
  histogram('delay.duration', 'Time for which a write was delayed.', (s) => s.latency.delay),
  histogram('hold.duration', 'Time for which a write was held.', (s) => s.latency.hold),
];

/** A backup as far as the adapters need it. */
export interface Measured {
  stats(): BackupStats;
}

/** Backups that are measured, each with what tells it from the others. */
export class Sources<Labels extends object> {
  readonly #sources = new Map<Measured, Labels>();

  /** @returns what takes it away again. */
  add(backup: Measured, labels: Labels): () => void {
    this.#sources.set(backup, labels);
    return () => {
      this.#sources.delete(backup);
    };
  }

  *[Symbol.iterator](): Iterator<{ labels: Labels; stats: BackupStats }> {
    for (const [backup, labels] of this.#sources) yield { labels, stats: backup.stats() };
  }
}

function counter(name: string, unit: Unit, help: string, value: ScalarMetric['value']): ScalarMetric {
  return { kind: 'counter', name, unit, help, value };
}

function gauge(name: string, unit: Unit, help: string, value: ScalarMetric['value']): ScalarMetric {
  return { kind: 'gauge', name, unit, help, value };
}

function histogram(name: string, help: string, value: HistogramMetric['value']): HistogramMetric {
  return { kind: 'histogram', name, unit: 'seconds', help, value };
}
