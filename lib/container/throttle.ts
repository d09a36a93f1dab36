/**
 * Slows writers down before the container is full: tells the driver, ten times
 * a second, how fast slots come back. The delay itself is the driver's, a
 * function of the fill and of this rate (kernel-module/core/snapbak_throttle.h):
 * it falls on writes that need a capture alone, grows smoothly from the `high`
 * watermark on, and settles where captures come in as fast as they are drained.
 *
 * The rate is what writers got in the last second, drained, spilled or copied
 * because a write was held for it. It is measured only while there is always
 * something to drain (more than `low`): below that it would be the writers'
 * own speed, not the target's.
 */
import type { NativeThrottle } from '../binding.js';
import type { Clock } from '../scheduler/clock.js';
import { Speedometer } from '../stats.js';
import type { ResolvedWatermarks } from './watermarks.js';

/** How often the rate is told. */
export const THROTTLE_MS = 100;
/** What the rate is measured over. */
const WINDOW_MS = 1000;
/** Before anything was measured: no delay to speak of. */
const UNKNOWN_RATE = 2 ** 40;

/** What the throttle looks at: blocks captured or wanted ever, and slots that are in use. */
export interface Fill {
  capturedBlocks: number;
  wantedBlocks: number;
  slotsUsed: number;
}

export interface ThrottleOptions {
  watermarks: ResolvedWatermarks;
  blockSize: number;
  /** The longest that one write is delayed, milliseconds; 0: never. */
  maxDelay: number;
  /** Makes no system call. */
  read(): Fill;
  apply(throttle: NativeThrottle): void;
  clock: Clock;
}

export class Throttle {
  readonly #options: ThrottleOptions;
  #speedometer: Speedometer | undefined;
  #rate = UNKNOWN_RATE;
  #cancel: (() => void) | undefined;

  constructor(options: ThrottleOptions) {
    this.#options = options;
  }

  /** Bytes a second that the container is drained, as measured last. */
  get rate(): number {
    return this.#rate;
  }

  start(): void {
    const { watermarks, maxDelay } = this.#options;
    if (maxDelay === 0 || watermarks.high >= watermarks.full) return; // nothing between: writers are held only
    this.#tick();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #tick(): void {
    const { watermarks, maxDelay, apply, clock } = this.#options;
    this.#measure();
    // begin is never 0, which would switch the throttle off
    const begin = Math.max(1, watermarks.high);
    apply({ begin, full: watermarks.full, rate: this.#rate, maxUs: maxDelay * 1000 });
    this.#cancel = clock.after(THROTTLE_MS, () => this.#tick());
  }

  #measure(): void {
    const { watermarks, blockSize, read, clock } = this.#options;
    const { capturedBlocks, wantedBlocks, slotsUsed } = read();
    if (slotsUsed <= watermarks.low) {
      this.#speedometer = undefined;
      return;
    }
    const fresh = this.#speedometer === undefined;
    this.#speedometer ??= new Speedometer(WINDOW_MS);
    const rate = this.#speedometer.sample(
      clock.now(),
      (capturedBlocks - slotsUsed + wantedBlocks) * blockSize,
    );
    // a block a second at least: the driver takes 0 for unknown
    if (!fresh) this.#rate = Math.max(Math.round(rate), blockSize);
  }
}
