/**
 * nbdkit 1.32.4 to 1.33.9 (Debian 12 has 1.32.5) aborts when a client hangs up while replies are still to be
 * sent to it ("raw_send_socket: Assertion `sock >= 0' failed"; fixed upstream in commit 9d82aa4f). fio hangs up
 * like that at the end of a replay now and then. Such a sample says nothing of what is measured: it is taken
 * again, and the log says so. Any other failure stays one.
 */
import type { Context } from './context.js';

const ABORTED = /raw_send_socket: Assertion/;
const TRIES = 5;

/** Runs `measure`, again when the server that it names died of that. */
export async function despiteHangUps<T>(
  context: Context,
  measure: (serving: (said: () => string) => void) => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    let said = () => '';
    try {
      return await measure((server) => {
        said = server;
      });
    } catch (error) {
      if (tries === TRIES || !ABORTED.test(said())) throw error;
      context.log('nbdkit aborted at a hang-up of fio (see bench/lib/hang-up.ts): measured again');
    }
  }
}
