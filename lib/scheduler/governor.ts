/**
 * How fast the sweep may go: the user's rate, or less while the application
 * needs the device. Looks at the foreground latency ten times a second, which
 * is the mean time of the requests that the application completed, without what
 * the driver made them wait for the container.
 *
 * Above the goal, the sweep is slowed down by a third at once; below it, it is
 * let go step by step (additive increase, multiplicative decrease: D.-M. Chiu
 * and R. Jain, 1989). Where the origin is quiet there is no limit, and a floor,
 * a twentieth of what the sweep is able to do, brings every backup to its end.
 *
 * With the goal `auto`, what the device takes for its requests without the sweep
 * is measured, with the sweep at its floor for a moment, now and then as long
 * as the application is busy: only the sweep's own part of a latency is a
 * reason to slow it down.
 */
import type { RequestTotals } from '../host.js';
import type { Clock } from './clock.js';

/** How often it looks. */
export const GOVERNOR_MS = 100;
/** A mean of fewer requests says little: they are gathered over more looks, but never longer than this. */
const MIN_REQUESTS = 8;
const QUIET_MS = 1000;
/** The floor, as a part of the sweep's best speed, and never below this many bytes a second. */
const FLOOR_PART = 1 / 20;
const FLOOR_LEAST = 2 ** 20;
const DECREASE = 2 / 3;
/** Limited to more than this part of its best speed, the sweep is not limited at all. */
const FREE_PART = 1.25;
/** What the sweep's speed is measured over, and what is kept of a better one before. */
const SPEED_MS = 500;
const FORGET = 0.9;
/** A step up: this part of the limit, and of the sweep's best speed. */
const INCREASE = 1 / 20;
/** A measurement at the floor begins when what was handed out before has been copied, but not later than this. */
const PROBE_EVERY_MS = 10_000;
const PROBE_SETTLE_MS = 2000;
const PROBE_MS = 300;
/** Goal `auto`: so much above what was measured, whichever is more. */
const AUTO_FACTOR = 2;
const AUTO_SLACK_MS = 0.5;

/** Milliseconds; `auto`: found by measuring; `none`: the sweep yields to nobody. */
export type LatencyGoal = number | 'auto' | 'none';

/** What the governor sees and does. */
export interface ForegroundStats {
  /** The mean time of the application's requests, measured last, milliseconds; absent while the origin is quiet. */
  latencyMs?: number;
  /** What it should not exceed; absent while there is no goal. */
  goalMs?: number;
  /** What the sweep is limited to for the application's sake, bytes a second; absent: not at all. */
  sweepLimit?: number;
}

export interface GovernorOptions {
  goal: LatencyGoal;
  /** The user's limit, bytes a second, or none. */
  rate: number | undefined;
  /** What the application asked of the origin; nothing if that cannot be known (any more). */
  foreground(): Promise<RequestTotals | undefined>;
  /** Work that was handed out and not begun, bytes. */
  queuedBytes(): number;
  /** Bytes that the sweep took so far. */
  sweptBytes(): number;
  /** The rate of the sweep from now on, bytes a second, or no limit. */
  apply(rate: number | undefined): void;
  clock: Clock;
}

/** A measurement of what requests take without the sweep. */
interface Probe {
  since: number;
  /** When what was handed out before had been copied. */
  from: { at: number; totals: RequestTotals } | undefined;
  /** The limit to go back to. */
  before: number | undefined;
}

export class Governor {
  readonly #options: GovernorOptions;
  #rate: number | undefined;
  /** For the application's sake. */
  #limit: number | undefined;
  #applied: number | undefined;
  /** What requests take without the sweep, milliseconds, and when it was measured. */
  #baseline: number | undefined;
  #probedAt = Number.NEGATIVE_INFINITY;
  #probe: Probe | undefined;
  #last: { at: number; foreground: RequestTotals } | undefined;
  #swept: { at: number; bytes: number } | undefined;
  /** The sweep's best speed, bytes a second; nothing is judged before it is known. */
  #best = 0;
  #latency: number | undefined;
  #running = false;
  #cancel: (() => void) | undefined;

  constructor(options: GovernorOptions) {
    this.#options = options;
    this.#rate = options.rate;
    this.#applied = options.rate;
  }

  start(): void {
    if (this.#running || this.#options.goal === 'none') return;
    this.#running = true;
    this.#arm();
  }

  stop(): void {
    this.#running = false;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** The user's limit from now on. */
  setRate(rate: number | undefined): void {
    this.#rate = rate;
    this.#apply();
  }

  get stats(): ForegroundStats {
    const goalMs = this.#goal();
    return {
      ...(this.#latency === undefined ? {} : { latencyMs: this.#latency }),
      ...(goalMs === undefined ? {} : { goalMs }),
      ...(this.#limit === undefined ? {} : { sweepLimit: Math.round(this.#limit) }),
    };
  }

  #arm(): void {
    this.#cancel = this.#options.clock.after(GOVERNOR_MS, () => void this.#look());
  }

  async #look(): Promise<void> {
    const foreground = await this.#options.foreground().catch(() => undefined);
    if (!this.#running) return;
    const now = this.#options.clock.now();
    this.#noteSpeed(now);
    // without figures nobody is known to need the device
    if (foreground === undefined) this.#beQuiet();
    else if (this.#probe !== undefined) this.#measureBaseline(now, foreground, this.#probe);
    else if (this.#best > 0) this.#judge(now, foreground);
    this.#apply();
    this.#arm();
  }

  #judge(now: number, foreground: RequestTotals): void {
    this.#last ??= { at: now, foreground };
    const requests = foreground.requests - this.#last.foreground.requests;
    const elapsed = now - this.#last.at;
    if (requests < MIN_REQUESTS && elapsed < QUIET_MS) return;
    const latency = mean(this.#last.foreground, foreground);
    this.#last = { at: now, foreground };
    this.#latency = latency;
    const stale = this.#baseline === undefined || now - this.#probedAt >= PROBE_EVERY_MS;
    if (latency === undefined) this.#beQuiet();
    else if (this.#options.goal === 'auto' && stale) this.#beginProbe(now);
    else this.#steer(latency);
  }

  #steer(latency: number): void {
    const goal = this.#goal();
    if (goal === undefined) return;
    const floor = this.#floor();
    if (latency > goal) {
      // no slower helps: it is not the sweep that makes them wait
      const atFloor = this.#limit !== undefined && this.#limit <= floor;
      if (this.#options.goal === 'auto' && atFloor) this.#baseline = latency;
      this.#limit = Math.max(floor, (this.#limit ?? this.#best) * DECREASE);
    } else if (this.#limit !== undefined) {
      this.#limit += Math.max(this.#limit, this.#best) * INCREASE;
      if (this.#limit > FREE_PART * this.#best) this.#limit = undefined;
    }
  }

  #beginProbe(now: number): void {
    this.#probe = { from: undefined, since: now, before: this.#limit };
    this.#limit = this.#floor();
  }

  #measureBaseline(now: number, foreground: RequestTotals, probe: Probe): void {
    const settled = this.#options.queuedBytes() === 0 || now - probe.since >= PROBE_SETTLE_MS;
    if (settled) probe.from ??= { at: now, totals: foreground };
    if (probe.from === undefined) return;
    const requests = foreground.requests - probe.from.totals.requests;
    const elapsed = now - probe.from.at;
    if (elapsed < PROBE_MS || (requests < MIN_REQUESTS && elapsed < QUIET_MS)) return;
    this.#probe = undefined;
    this.#last = { at: now, foreground };
    const latency = mean(probe.from.totals, foreground);
    this.#latency = latency;
    if (latency === undefined) {
      this.#beQuiet();
    } else {
      this.#baseline = latency;
      this.#probedAt = now;
      this.#limit = probe.before;
    }
  }

  /** Nobody waits for the device: the sweep may have all of it. */
  #beQuiet(): void {
    this.#latency = undefined;
    this.#probe = undefined;
    this.#limit = undefined;
  }

  #goal(): number | undefined {
    const { goal } = this.#options;
    if (goal === 'none') return undefined;
    if (goal !== 'auto') return goal;
    if (this.#baseline === undefined) return undefined;
    return Math.max(this.#baseline * AUTO_FACTOR, this.#baseline + AUTO_SLACK_MS);
  }

  #floor(): number {
    return Math.max(FLOOR_LEAST, this.#best * FLOOR_PART);
  }

  #noteSpeed(now: number): void {
    const bytes = this.#options.sweptBytes();
    this.#swept ??= { at: now, bytes };
    const elapsed = now - this.#swept.at;
    if (elapsed < SPEED_MS) return;
    const speed = ((bytes - this.#swept.bytes) * 1000) / elapsed;
    // what it is able to do may fall, but a limit shows nothing of that
    const kept = this.#applied === undefined ? this.#best * FORGET : this.#best;
    this.#best = Math.max(speed, kept);
    this.#swept = { at: now, bytes };
  }

  #apply(): void {
    const limit = this.#limit === undefined ? undefined : Math.round(this.#limit);
    const rate = limit === undefined ? this.#rate : Math.min(limit, this.#rate ?? limit);
    if (rate === this.#applied) return;
    this.#applied = rate;
    this.#options.apply(rate);
  }
}

/** Milliseconds a request; nothing if there was none. */
function mean(from: RequestTotals, to: RequestTotals): number | undefined {
  const requests = to.requests - from.requests;
  return requests <= 0 ? undefined : Math.max(0, to.ms - from.ms) / requests;
}
