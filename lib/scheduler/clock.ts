/**
 * Time as the scheduler sees it, so that tests can turn the hands.
 */
export interface Clock {
  /** Milliseconds, never going back. */
  now(): number;
  /** Calls `run` once after `ms`; the answer cancels it. Does not keep the process alive. */
  after(ms: number, run: () => void): () => void;
}

/** The real one. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
