/**
 * Runs `start` with a signal that follows `signal` until it is done, and no
 * longer: what was started outlives the work that the signal is about.
 */
export async function whileStarting<T>(
  signal: AbortSignal | undefined,
  start: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const starting = new AbortController();
  const abort = () => starting.abort(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    return await start(starting.signal);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
