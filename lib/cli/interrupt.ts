/**
 * Ctrl-C: the first signal ends the work cleanly, a second one the process.
 * Either way the driver lets every held write go.
 */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/** Runs `work` with a signal that aborts when the process is told to end. */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  exit: (status: number) => void = (status) => process.exit(status),
): Promise<T> {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) exit(128 + (NUMBERS[name as keyof typeof NUMBERS] ?? 0));
    else controller.abort(new Error(`stopped by ${name}`));
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of SIGNALS) process.off(name, onSignal);
  }
}
