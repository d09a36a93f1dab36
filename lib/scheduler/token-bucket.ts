/**
 * A token bucket: how many bytes may go now, at a rate, with a bounded burst.
 * It holds no timer; whoever asks says what time it is.
 */

/** The longest burst, as time at the rate. */
export const BURST_MS = 200;

export class TokenBucket {
  readonly #floor: number;
  #rate: number;
  #tokens = 0;
  #at: number;

  /**
   * @param rate bytes a second.
   * @param floor bytes that the bucket holds at least, so that a rate that is
   * slow beside the unit of work still gets one unit at a time.
   * @param now milliseconds.
   */
  constructor(rate: number, floor: number, now: number) {
    this.#rate = rate;
    this.#floor = floor;
    this.#at = now;
  }

  /** Bytes that may go at `now`. */
  available(now: number): number {
    const elapsed = Math.max(0, now - this.#at);
    this.#at = now;
    const most = Math.max(this.#floor, (this.#rate * BURST_MS) / 1000);
    this.#tokens = Math.min(most, this.#tokens + (this.#rate * elapsed) / 1000);
    return this.#tokens;
  }

  take(bytes: number): void {
    this.#tokens -= bytes;
  }

  /** What was earned until `now` at the old rate stays, as far as the new burst allows. */
  setRate(rate: number, now: number): void {
    this.available(now);
    this.#rate = rate;
  }
}
