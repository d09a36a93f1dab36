/** A soak: lanes beside one another, and what is to be said of them. */
import { figure, table } from '../../bench/lib/table.js';
import type { Cleanup } from '../helpers/cleanup.js';
import { type Flatness, flatness, MIN_SAMPLES, sparkline } from './flat.js';
import { Lane, type Outcome, type Period, type Sample } from './lane.js';
import type { DriverKind } from './plan.js';
import type { WriterKind } from './writer.js';

export interface SoakOptions {
  /** How long, and how many sessions each driver has at least. */
  seconds: number;
  sessions?: number;
  drivers: DriverKind[];
  seed: number;
  /** How much faster than in the long form one session is; default: 1. */
  pace?: number;
  /** Too short a run for processes to be warm. */
  short?: boolean;
  /** Of a row of the report; default: a minute. */
  periodSeconds?: number;
  signal?: AbortSignal;
}

export interface LaneReport {
  driver: DriverKind;
  sessions: number;
  sessionsPerMinute: number;
  images: number;
  outcomes: Record<Outcome, number>;
  figures: Lane['figures'];
  periods: Period[];
  /** By the name of the figure. */
  flat: Record<string, Flatness>;
  samples: Sample[];
}

const MiB = 2 ** 20;

/**
 * The most that a figure may rise; and in a short run, in which processes still
 * warm up: pools start their threads, V8 and malloc take their memory.
 *
 * Resident memory has no exact measure. V8 keeps free pages, and malloc gives
 * an arena's memory back only from its end: single samples without a leak
 * differ by 12 MiB, but in twelve minutes (500 sessions) the medians of thirds
 * and the trend by 0.2. The bound is 12 KiB a session there, and 5 KiB in half
 * an hour. The heap after a collection differs by compiled code alone (0.1
 * MiB). What is counted must be as it was.
 */
const BOUNDS: { name: string; bound: number; short: number; of(sample: Sample): number | undefined }[] = [
  { name: 'library RSS', bound: 4 * MiB, short: 48 * MiB, of: ({ library }) => library.rss },
  { name: 'library heap', bound: MiB, short: 2 * MiB, of: ({ library }) => library.heap },
  { name: 'library descriptors', bound: 0, short: 0, of: ({ library }) => library.descriptors },
  { name: 'library threads', bound: 0, short: 4, of: ({ library }) => library.threads },
  { name: 'nbdkit RSS', bound: MiB, short: 2 * MiB, of: ({ nbdkit }) => nbdkit?.rss },
  { name: 'nbdkit descriptors', bound: 0, short: 0, of: ({ nbdkit }) => nbdkit?.descriptors },
  { name: 'nbdkit threads', bound: 0, short: 4, of: ({ nbdkit }) => nbdkit?.threads },
  { name: 'files', bound: 0, short: 0, of: ({ files }) => files },
];

/** Runs until the time is over; throws at the first image, origin or session that is wrong. */
export async function soak(options: SoakOptions, cleanup: Cleanup): Promise<LaneReport[]> {
  const { seconds, sessions = MIN_SAMPLES, drivers, seed, pace = 1, periodSeconds = 60, signal } = options;
  const stop = new AbortController();
  const ends = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const end = performance.now() + seconds * 1000;
  const lanes = drivers.map((driver) => new Lane(driver, seed, pace, cleanup));
  await Promise.all(
    lanes.map((lane) =>
      lane.run(end, sessions, periodSeconds * 1000, ends).catch((error: unknown) => {
        stop.abort(); // the others need not go on
        throw error;
      }),
    ),
  );
  return lanes.map((lane) => reportOf(lane, options.short === true));
}

function reportOf(lane: Lane, isShort: boolean): LaneReport {
  const { driver, sessions, images, outcomes, figures, periods, samples } = lane;
  const flat: Record<string, Flatness> = {};
  for (const { name, bound, short, of } of BOUNDS) {
    const values = samples.map(of).filter((value) => value !== undefined);
    if (values.length > 0) flat[name] = flatness(values, isShort ? short : bound);
  }
  const minutes = periods.reduce((sum, period) => sum + period.minutes, 0);
  const sessionsPerMinute = sessions / minutes;
  return { driver, sessions, sessionsPerMinute, images, outcomes, figures, periods, flat, samples };
}

/** What is not flat, in words. */
export function problemsOf({ driver, sessions, flat }: LaneReport): string[] {
  if (sessions < MIN_SAMPLES) return [`${driver}: ${sessions} sessions, too few to tell what is flat`];
  return Object.entries(flat)
    .filter(([, { flat: is }]) => !is)
    .map(([name, { middle, last, trend, bound }]) => {
      return `${driver}: ${name} rose from ${show(name, middle)} to ${show(name, last)} (by its trend ${show(name, trend)}, allowed ${show(name, bound)})`;
    });
}

function show(name: string, value: number): string {
  return /RSS|heap/.test(name) ? `${figure(value / MiB)} MiB` : figure(value);
}

/** The report for people. */
export function textOf(report: LaneReport): string {
  const { driver, sessions, sessionsPerMinute, images, outcomes, figures, periods, flat, samples } = report;
  const kinds: WriterKind[] = ['first-touch', 'safe', 'mixed'];
  const latency = table(
    ['period', 'sessions', ...kinds.flatMap((kind) => [`${kind} writes`, 'p99 ms', 'longest ms'])],
    periods.map((period, i) => [
      String(i + 1),
      String(period.sessions),
      ...kinds.flatMap((kind) => [
        figure(period.writes[kind]),
        figure(period.p99[kind]),
        figure(period.longest[kind]),
      ]),
    ]),
  );
  const held = table(
    ['figure', 'second third', 'last third', 'trend', 'allowed'],
    Object.entries(flat).map(([name, { middle, last, trend, bound, flat: is }]) => [
      `${is ? ' ' : '!'} ${name}`,
      ...[middle, last, trend, bound].map((value) => show(name, value)),
    ]),
  );
  const lines = (['library', 'nbdkit'] as const).flatMap((process) => {
    const rss = samples.flatMap((sample) => sample[process]?.rss ?? []);
    if (rss.length === 0) return [];
    const [least, most] = [Math.min(...rss), Math.max(...rss)].map((value) => show('RSS', value));
    return [`${process.padEnd(7)} RSS ${sparkline(rss)} ${least} to ${most}`];
  });
  const ends = Object.entries(outcomes).map(([name, count]) => `${count} ${name}`);
  return [
    `== ${driver} driver: ${sessions} sessions (${ends.join(', ')}), ${figure(sessionsPerMinute)} a minute; ${images} images compared`,
    `${figure(figures.captured)} blocks captured, ${figure(figures.spilled)} spilled; ${figure(figures.delayed)} writes delayed, ${figure(figures.held)} held`,
    latency,
    held,
    ...lines,
  ].join('\n\n');
}
