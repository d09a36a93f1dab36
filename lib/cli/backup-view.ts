/**
 * How a running backup looks: events as JSON, a bar on a terminal, or a line
 * every few seconds in a log.
 */
import { SingleBar } from 'cli-progress';
import { errnoName } from '../errors.js';
import type {
  BackupEvent,
  DiskEvent,
  FinishedEvent,
  InvalidBlockEvent,
  OfDisk,
  StartedEvent,
} from '../events.js';
import { formatSize } from '../extent.js';
import type { BackupStats } from '../stats.js';
import { partLine } from './blocks-command.js';
import type { Output } from './output.js';
import { formatSeconds } from './values.js';

/** Shows a backup's events, in their order. */
export interface BackupView {
  show(event: BackupEvent): void;
  /** A line on standard error, also with `--json`. */
  note(text: string): void;
  /** Leaves the terminal as it was; whatever happened. */
  end(): void;
}

/** Seconds between two lines in a log. */
const LINE_SECONDS = 5;
/** Invalid blocks told one by one to people. */
const MAX_INVALID_LINES = 10;

export function backupView(output: Output, json: boolean): BackupView {
  if (json) {
    return { show: (event) => output.event(event), note: (text) => output.warn(text), end() {} };
  }
  return new TextView(output, output.isTerminal ? new Bar() : new Lines(output));
}

/** Draws progress; `clear` makes room for a line of text. */
interface Meter {
  update(stats: BackupStats): void;
  clear(): void;
}

class TextView implements BackupView {
  readonly #output: Output;
  readonly #meter: Meter;
  #invalid = 0;

  constructor(output: Output, meter: Meter) {
    this.#output = output;
    this.#meter = meter;
  }

  show(event: BackupEvent): void {
    switch (event.event) {
      case 'started':
        for (const line of startedLines(event)) this.#output.line(line);
        return;
      case 'blocks':
        for (const part of event.parts) this.#output.line(`  ${ofDisk(event)}${partLine(part)}`);
        return;
      case 'progress':
        this.#meter.update(event);
        return;
      case 'spill':
        if (event.lost) {
          const why = event.errno === undefined ? '' : ` (${errnoName(event.errno)})`;
          this.#warn(
            `${ofDisk(event)}the second tier of the container, ${event.tier ?? 'unnamed'}, failed${why} and was given up; ` +
              'what is left of the container goes on',
          );
        }
        return;
      case 'invalid-block':
        this.#showInvalid(event);
        return;
      case 'hook':
      case 'clone-lost':
        this.#warn(event.message);
        return;
      case 'disk':
        this.#meter.clear();
        this.#output.line(diskLine(event));
        return;
      case 'finished':
        this.#meter.clear();
        for (const line of finishedLines(event)) this.#output.line(line);
        return;
      default:
        return; // delays and holds are in the progress; how it ended is told by the command
    }
  }

  note(text: string): void {
    this.#meter.clear();
    this.#output.warn(text);
  }

  end(): void {
    this.#meter.clear();
  }

  #showInvalid(event: InvalidBlockEvent): void {
    const { extent, errno, more = 0 } = event;
    this.#invalid += 1;
    if (this.#invalid > MAX_INVALID_LINES) return;
    const last = this.#invalid === MAX_INVALID_LINES ? '; further ones are counted only' : '';
    const others = more > 0 ? `, and ${more} more` : '';
    this.#warn(
      `${ofDisk(event)}cannot read the block at ${extent.offset} (${errnoName(errno)})${others}: it is not in the backup${last}`,
    );
  }

  #warn(text: string): void {
    this.note(`snapbak: ${text}`);
  }
}

class Bar implements Meter {
  #bar: SingleBar | undefined;

  update(stats: BackupStats): void {
    if (this.#bar === undefined) {
      this.#bar = new SingleBar({
        format: '[{bar}] {percentage}% {text}',
        barCompleteChar: '█',
        barIncompleteChar: '░',
        barsize: 10,
        fps: 4,
        linewrap: true, // trimmed to the width of the terminal
        hideCursor: null,
        gracefulExit: false, // signals are the command's business
        clearOnComplete: true,
      });
      this.#bar.start(Math.max(1, stats.totalBytes), stats.doneBytes, { text: '' });
    }
    this.#bar.update(stats.doneBytes, { text: barText(stats) });
  }

  clear(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }
}

class Lines implements Meter {
  readonly #output: Output;
  #next = LINE_SECONDS;

  constructor(output: Output) {
    this.#output = output;
  }

  update(stats: BackupStats): void {
    if (stats.seconds < this.#next) return;
    this.#next = stats.seconds + LINE_SECONDS;
    const percent = stats.totalBytes === 0 ? 100 : Math.floor((100 * stats.doneBytes) / stats.totalBytes);
    this.#output.warn(`${percent}% ${meterText(stats)}`);
  }

  clear(): void {}
}

/** The same as {@link meterText} in the 60 columns that a bar leaves on a small terminal. */
export function barText(stats: BackupStats): string {
  const { container, writers, bytesPerSecond, secondsLeft } = stats;
  const rate = formatSize(Math.round(bytesPerSecond)).replace(/\.\d+/, '');
  const left = secondsLeft === undefined ? '' : ` ${formatSeconds(Math.round(secondsLeft))} left`;
  return (
    `${rate}/s${left} | fill ${Math.round(100 * container.fill)}% | ` +
    `${writers.captured} captured ${writers.delayed} delayed ${writers.held} held${diskParts(stats)}`
  );
}

/** Rate, time left, container, and what writers meet. */
export function meterText(stats: BackupStats): string {
  const { container, writers } = stats;
  const left = stats.secondsLeft === undefined ? '' : `, ${formatSeconds(stats.secondsLeft)} left`;
  const now = writers.heldNow > 0 ? ` (${writers.heldNow} now)` : '';
  const { sweepLimit } = stats.foreground;
  const yields = sweepLimit === undefined ? '' : `, yields at ${formatSize(sweepLimit)}/s`;
  return (
    `${formatSize(stats.doneBytes)} of ${formatSize(stats.totalBytes)}, ` +
    `${formatSize(Math.round(stats.bytesPerSecond))}/s${yields}${left} | container ${Math.round(100 * container.fill)}% | ` +
    `${writers.captured} captured, ${writers.delayed} delayed, ${writers.held} held${now}${diskParts(stats)}`
  );
}

/** How far each of several disks is. */
function diskParts({ disks = [] }: BackupStats): string {
  const each = disks.map(({ name, state, stats: { doneBytes, totalBytes } }) => {
    if (state === 'broken' || state === 'failed') return `${name} broke`;
    return `${name} ${totalBytes === 0 ? 100 : Math.floor((100 * doneBytes) / totalBytes)}%`;
  });
  return each.length === 0 ? '' : ` | ${each.join(' ')}`;
}

/** `vg-data: ` before what is about one of several. */
function ofDisk({ disk }: OfDisk): string {
  return disk === undefined ? '' : `${disk}: `;
}

function diskLine({ disk, state, invalidBlocks = 0, seconds = 0, message = '' }: DiskEvent): string {
  if (state === 'broken') return `  ${disk}: broke; the others go on: ${message}`;
  const invalid = invalidBlocks === 0 ? '' : `, ${invalidBlocks} blocks could not be read`;
  return `  ${disk}: copied in ${formatSeconds(seconds)}${invalid}`;
}

/** What writers met at the start instant, milliseconds. */
export function stillness(armMs: number, freezeMs: number): string {
  const arm = `writes stood still for ${Number(armMs.toFixed(3))} ms`;
  return freezeMs === 0 ? arm : `${arm}, file systems were frozen for ${Number(freezeMs.toFixed(3))} ms`;
}

function startedLines(event: StartedEvent): string[] {
  return [
    `started ${event.startedAt.toISOString()}: the backup is ${event.origin} as of this instant`,
    `  ${formatSize(event.listedBytes)} of ${formatSize(event.size)} in blocks of ${formatSize(event.blockSize)}; ` +
      `${stillness(event.armMs, event.freezeMs)}; id ${event.id}`,
    ...(event.disks ?? []).map(
      ({ name, origin, listedBytes, size }) =>
        `  ${name}: ${origin}, ${formatSize(listedBytes)} of ${formatSize(size)}`,
    ),
  ];
}

function finishedLines({ state, seconds, stats, invalidBlocks, clone }: FinishedEvent): string[] {
  const rate = seconds > 0 ? `, ${formatSize(Math.round(stats.doneBytes / seconds))}/s` : '';
  const { writers } = stats;
  const { armMs, freezeMs } = stats;
  const lines = [
    `${state}: ${formatSize(stats.doneBytes)} in ${formatSeconds(seconds)}${rate}`,
    `  ${stats.zeroBlocks} of ${stats.doneBlocks} blocks are zeroes; ${writers.captured} captured, ` +
      `${writers.delayed} writes delayed, ${writers.held} held (the longest ${Math.round(writers.heldMaxMs)} ms)`,
    ...(freezeMs > 0 ? [`  at the start ${stillness(armMs, freezeMs)}`] : []),
  ];
  if (invalidBlocks > 0) {
    lines.push(`  ${invalidBlocks} blocks could not be read from the origin; the manifest names them`);
  }
  if (clone !== undefined) lines.push(cloneLine(clone));
  return lines;
}

function cloneLine({ to, state, stats }: NonNullable<FinishedEvent['clone']>): string {
  if (state === 'lost' || state === 'closed')
    return `  the clone ${to} is not whole: it was ${state === 'lost' ? 'lost' : 'closed before'}`;
  const kept =
    stats.writtenBlocks > 0 ? `, ${stats.writtenBlocks} blocks of it as its clients wrote them` : '';
  const bad = stats.badBlocks > 0 ? `, but for ${stats.badBlocks} blocks` : '';
  return `  the clone ${to} is whole${bad}${kept}`;
}
