/**
 * Values as people write them on a command line: sizes, rates, times. What is
 * wrong is a usage error that names the value.
 */
import { InvalidArgumentError } from 'commander';
import type { Watermarks } from '../container/watermarks.js';
import { parseSize, show } from '../extent.js';
import type { LatencyGoal } from '../scheduler/governor.js';

/** What `<origin>` is, for the help. */
export const ORIGIN = 'a device with the kernel driver, or unix:CONTROL_SOCKET of "snapbak serve --control"';

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of e.g. `500ms`, `30s`, `5m`, `1.5h`; a number needs its unit. */
export function durationValue(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  if (match === null) throw new InvalidArgumentError(`${show(text)} is no time; write e.g. 500ms, 30s or 5m`);
  const ms = Math.round(Number(match[1]) * UNITS[match[2]!]!);
  if (ms < 1 || ms > 86_400_000) throw new InvalidArgumentError(`${text} is not from 1ms to 24h`);
  return ms;
}

/** The same up to ten minutes. */
export function hookTimeoutValue(text: string): number {
  const ms = durationValue(text);
  if (ms > 600_000) throw new InvalidArgumentError(`${text} is not from 1ms to 10m`);
  return ms;
}

/** The same up to a second, and `0` for none. */
export function delayValue(text: string): number {
  const ms = text === '0' ? 0 : durationValue(text);
  if (ms > 1000) throw new InvalidArgumentError(`${text} is not from 0 to 1s`);
  return ms;
}

/** `auto`, `none`, or milliseconds of e.g. `0.5ms` up to a minute. */
export function latencyGoalValue(text: string): LatencyGoal {
  if (text === 'auto' || text === 'none') return text;
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text);
  const ms = match === null ? Number.NaN : Number(match[1]) * UNITS[match[2]!]!;
  if (!(ms >= 0.01 && ms <= 60_000)) {
    throw new InvalidArgumentError(`${show(text)} is no latency; write auto, none, or e.g. 0.5ms or 20ms`);
  }
  return ms;
}

/** `low=0.5,drain-to=8M`: fractions up to 1, or sizes. */
export function watermarksValue(text: string): Watermarks {
  const watermarks: Watermarks = {};
  for (const part of text.split(',')) {
    const [, name, value] = /^(low|high|full|drain-to)=(.+)$/.exec(part) ?? [];
    if (value === undefined) {
      throw new InvalidArgumentError(
        `${show(part)} is no watermark; write e.g. low=0.5,high=0.75,full=1,drain-to=0.75`,
      );
    }
    const fraction = /^(0|1|0?\.\d+|1\.0+)$/.test(value);
    watermarks[name === 'drain-to' ? 'drainTo' : (name as 'low')] = fraction
      ? Number(value)
      : sizeValue(value);
  }
  return watermarks;
}

/** Bytes of e.g. `64K`. */
export function sizeValue(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** Bytes a second of e.g. `100M` or `100M/s`. */
export function rateValue(text: string): number {
  const rate = sizeValue(text.replace(/\/s$/, ''));
  if (rate < 1) throw new InvalidArgumentError('a rate must be above 0; leave the option out for no limit');
  return rate;
}

/** A block size: a power of two from 4K to 1M. */
export function blockSizeValue(text: string): number {
  const size = sizeValue(text);
  if (size < 4096 || size > 2 ** 20 || !Number.isInteger(Math.log2(size))) {
    throw new InvalidArgumentError(`${text} is no power of two from 4K to 1M`);
  }
  return size;
}

/** Collects an option that may be given several times. */
export function listValue(text: string, before: string[] = []): string[] {
  return [...before, text];
}

/** `1.5 s`, `3 min 20 s`, `2 h 5 min`, for people. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
