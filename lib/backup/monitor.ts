/**
 * Looks at the counters a few times a second and turns what changed into
 * events. The only poll of a running backup; it makes no system call.
 */
import type { NativeStats } from '../binding.js';
import type { EventChannel } from '../events.js';
import type { Clock } from '../scheduler/clock.js';
import type { ForegroundStats } from '../scheduler/governor.js';
import { type BackupStats, SpeedPanel, STANDSTILL, toStats } from '../stats.js';

/** Four times a second. */
export const SAMPLE_MS = 250;

export interface MonitorOptions {
  /** The counters, while the session is there. */
  read(): NativeStats;
  blockSize: number;
  /** The second tiers, for people. */
  tiers?: readonly string[];
  /** How the sweep yields to the application. */
  foreground?: () => ForegroundStats;
  channel: EventChannel;
  clock: Clock;
}

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #startedAt: number;
  readonly #panel: SpeedPanel;
  #speeds = STANDSTILL;
  #native: NativeStats;
  #stats: BackupStats;
  #told = { spilled: 0, delayed: 0, delayedNs: 0, held: 0, heldNow: 0 };
  #cancel: (() => void) | undefined;
  #ended = false;

  constructor(options: MonitorOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
    this.#native = options.read();
    this.#stats = this.#figures();
    this.#panel = new SpeedPanel(options.blockSize);
    this.#panel.sample(this.#startedAt, this.#native);
    this.#arm();
  }

  /** The figures now, or as they were last. */
  stats(): BackupStats {
    if (!this.#ended) {
      this.#native = this.#options.read();
      this.#stats = this.#figures();
    }
    return this.#stats;
  }

  /** Reads the counters a last time, before the session is closed. */
  end(): BackupStats {
    if (this.#ended) return this.#stats;
    this.#cancel?.();
    try {
      this.#sample();
    } catch {
      // the session is gone; what was seen last stays
    }
    this.#ended = true;
    return this.#stats;
  }

  /** A second tier failed and was given up. */
  tier2Lost(errno: number, tier: number): void {
    const lost = this.stats().container.tiers[tier]?.description;
    this.#pushSpill(true, { errno, ...(lost === undefined ? {} : { tier: lost }) });
  }

  #arm(): void {
    this.#cancel = this.#options.clock.after(SAMPLE_MS, () => {
      this.#sample();
      this.#arm();
    });
  }

  #sample(): void {
    const { clock, channel } = this.#options;
    this.stats();
    this.#speeds = this.#panel.sample(clock.now(), this.#native);
    this.#stats = this.#figures();
    channel.push({ event: 'progress', ...this.#stats });
    if (this.#native.spilledBlocks > this.#told.spilled) this.#pushSpill(false);
    this.#pushThrottle();
    this.#pushHold();
  }

  #pushSpill(lost: boolean, how: { errno?: number; tier?: string } = {}): void {
    const { spilledBlocks } = this.#native;
    this.#options.channel.push({
      event: 'spill',
      blocks: spilledBlocks - this.#told.spilled,
      totalBlocks: spilledBlocks,
      usedBytes: this.#stats.container.tier2UsedBytes,
      capacityBytes: this.#stats.container.tier2CapacityBytes,
      lost,
      ...how,
    });
    this.#told.spilled = spilledBlocks;
  }

  #pushThrottle(): void {
    const { delayed, delayedNs } = this.#native.counters;
    if (delayed <= this.#told.delayed) return;
    this.#options.channel.push({
      event: 'throttle',
      writes: delayed - this.#told.delayed,
      ms: (delayedNs - this.#told.delayedNs) / 1e6,
      fill: this.#stats.container.fill,
    });
    this.#told.delayed = delayed;
    this.#told.delayedNs = delayedNs;
  }

  #pushHold(): void {
    const { held, heldNow } = this.#native.counters;
    if (held <= this.#told.held && heldNow === this.#told.heldNow) return;
    this.#options.channel.push({
      event: 'hold',
      writes: held - this.#told.held,
      now: heldNow,
      longestMs: this.#stats.writers.heldMaxMs,
    });
    this.#told.held = held;
    this.#told.heldNow = heldNow;
  }

  #figures(): BackupStats {
    const { blockSize, tiers = [], foreground = () => ({}) } = this.#options;
    const around = { tiers, foreground: foreground() };
    return toStats(this.#native, blockSize, this.#seconds(), this.#speeds, around);
  }

  #seconds(): number {
    return (this.#options.clock.now() - this.#startedAt) / 1000;
  }
}
