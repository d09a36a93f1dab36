/**
 * Looks at the counters a few times a second and turns what changed into
 * events. The only poll of a running backup; it makes no system call.
 */
import type { NativeStats } from '../binding.js';
import type { EventChannel } from '../events.js';
import type { Clock } from '../scheduler/clock.js';
import { type BackupStats, Speedometer, toStats } from '../stats.js';

/** Four times a second. */
export const SAMPLE_MS = 250;

export interface MonitorOptions {
  /** The counters, while the session is there. */
  read(): NativeStats;
  blockSize: number;
  channel: EventChannel;
  clock: Clock;
}

export class Monitor {
  readonly #options: MonitorOptions;
  readonly #startedAt: number;
  readonly #speedometer = new Speedometer();
  #speed = 0;
  #native: NativeStats;
  #stats: BackupStats;
  #told = { spilled: 0, delayed: 0, delayedNs: 0, held: 0, heldNow: 0 };
  #cancel: (() => void) | undefined;
  #ended = false;

  constructor(options: MonitorOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
    this.#native = options.read();
    this.#stats = toStats(this.#native, options.blockSize, 0, 0);
    this.#speedometer.sample(this.#startedAt, this.#stats.doneBytes);
    this.#arm();
  }

  /** The figures now, or as they were last. */
  stats(): BackupStats {
    if (!this.#ended) {
      this.#native = this.#options.read();
      this.#stats = toStats(this.#native, this.#options.blockSize, this.#seconds(), this.#speed);
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

  /** The second tier failed and was given up. */
  tier2Lost(errno: number): void {
    this.#pushSpill(true, errno);
  }

  #arm(): void {
    this.#cancel = this.#options.clock.after(SAMPLE_MS, () => {
      this.#sample();
      this.#arm();
    });
  }

  #sample(): void {
    const { clock, channel } = this.#options;
    const done = this.stats().doneBytes;
    this.#speed = this.#speedometer.sample(clock.now(), done);
    this.#stats = toStats(this.#native, this.#options.blockSize, this.#seconds(), this.#speed);
    channel.push({ event: 'progress', ...this.#stats });
    if (this.#native.spilledBlocks > this.#told.spilled) this.#pushSpill(false);
    this.#pushThrottle();
    this.#pushHold();
  }

  #pushSpill(lost: boolean, errno?: number): void {
    const { spilledBlocks } = this.#native;
    this.#options.channel.push({
      event: 'spill',
      blocks: spilledBlocks - this.#told.spilled,
      totalBlocks: spilledBlocks,
      usedBytes: this.#stats.container.tier2UsedBytes,
      capacityBytes: this.#stats.container.tier2CapacityBytes,
      lost,
      ...(errno === undefined ? {} : { errno }),
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

  #seconds(): number {
    return (this.#options.clock.now() - this.#startedAt) / 1000;
  }
}
