/**
 * `snapbak status --watch`: the state of a session again and again, until it
 * ends: drawn over itself on a terminal, a line a time in a log, or as JSON.
 * Asks the driver by STATUS, which delays nobody.
 */
import { formatSize } from '../extent.js';
import type { OriginStatus } from '../origin.js';
import type { Output } from './output.js';
import { formatSeconds } from './values.js';

export interface Watch {
  spec: string;
  json: boolean;
  read(): Promise<OriginStatus>;
  /** Waits until it is time to look again; false: no more. */
  pause(): Promise<boolean>;
  output: Output;
  /** Milliseconds, never going back. */
  now(): number;
}

/** A look, and the captures a second since the one before. */
interface Look {
  status: OriginStatus;
  capturesPerSecond: number;
}

const BAR = 20;

/** @returns the last state that the session was seen in. */
export async function watchStatus(watch: Watch): Promise<OriginStatus['state']> {
  const { output, json, spec, read, pause, now } = watch;
  let last: OriginStatus['state'] = 'new';
  let before: { captured: number; at: number } | undefined;
  let drawn = 0;
  for (;;) {
    const status = await read();
    const session = hasSession(status);
    const { captured } = status.counters;
    const at = now();
    const passed = before === undefined ? 0 : at - before.at;
    const more = before === undefined ? 0 : captured - before.captured;
    // less than before: another session has begun
    const look = { status, capturesPerSecond: passed > 0 && more > 0 ? (more * 1000) / passed : 0 };
    before = { captured, at };
    if (json) {
      output.event({
        event: 'status',
        origin: spec,
        session,
        capturesPerSecond: look.capturesPerSecond,
        ...status,
      });
    } else if (!session) output.line(last === 'new' ? 'no session' : 'the session is over');
    else if (output.drawsLines) drawn = draw(output, watchLines(look), drawn);
    else output.line(watchLine(look));
    if (session) last = status.state;
    const over = !session || status.state === 'finished' || status.state === 'broken';
    if (over || !(await pause())) return last;
  }
}

export function hasSession({ state, slots }: OriginStatus): boolean {
  return state !== 'new' || slots > 0;
}

/** Over what was drawn before; what is longer than the new text goes. */
function draw(output: Output, lines: string[], before: number): number {
  const up = before === 0 ? '' : `\x1b[${before}A`;
  output.raw(`${up}${lines.map((line) => `\r\x1b[2K${line}\n`).join('')}`);
  return lines.length;
}

/** A few short lines, so that none is broken on a small terminal. */
export function watchLines({ status, capturesPerSecond }: Look): string[] {
  const { counters, slots, blocks, pendingBlocks, blockSize, startTime, state, reason } = status;
  const fill = slots === 0 ? 0 : Math.min(1, counters.slotsUsed / slots);
  const full = Math.round(fill * BAR);
  const bar = '█'.repeat(full) + '░'.repeat(BAR - full);
  const age = startTime === 0 ? '' : ` for ${formatSeconds(Math.max(0, Date.now() - startTime) / 1000)}`;
  const why = reason === 'none' ? '' : ` (${reason})`;
  return [
    `session:   ${state}${why}${age}, ${pendingBlocks} of ${blocks} blocks pending`,
    `container: [${bar}] ${percent(fill)}, ${counters.slotsUsed} of ${slots} slots of ${formatSize(blockSize)}`,
    `captured:  ${counters.captured}, ${Math.round(capturesPerSecond)}/s, ${mean(counters.captureNs, counters.captured)} ms each`,
    `delayed:   ${counters.delayedNow} now, ${waits(counters.delayed, counters.delayedNs, counters.delayedMaxNs)}`,
    `held:      ${counters.heldNow} now, ${waits(counters.held, counters.heldNs, counters.heldMaxNs)}`,
  ];
}

/** The same in a line. */
export function watchLine({ status, capturesPerSecond }: Look): string {
  const { counters, slots, blocks, pendingBlocks, state, reason } = status;
  const why = reason === 'none' ? '' : ` (${reason})`;
  return (
    `${state}${why}: ${percent(blocks === 0 ? 0 : pendingBlocks / blocks)} pending, ` +
    `container ${percent(slots === 0 ? 0 : counters.slotsUsed / slots)}, ` +
    `${Math.round(capturesPerSecond)} captures/s, ${counters.delayedNow} delayed and ${counters.heldNow} held now, ` +
    `the longest hold ${ms(counters.heldMaxNs)} ms`
  );
}

function waits(count: number, sumNs: number, maxNs: number): string {
  return `${count} in all, ${mean(sumNs, count)} ms each, the longest ${ms(maxNs)} ms`;
}

function mean(sumNs: number, count: number): number {
  return count === 0 ? 0 : ms(sumNs / count);
}

function ms(nanoseconds: number): number {
  return Number((nanoseconds / 1e6).toPrecision(3));
}

function percent(part: number): string {
  return `${Math.round(100 * part)}%`;
}
