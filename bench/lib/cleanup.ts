/**
 * What the benchmarks leave to be undone (processes, directories, mounts), undone in reverse order at the
 * end, after an error, and on Ctrl-C. An undo does its work at once; a promise that it returns only says when
 * it has taken effect, and is not waited for when the process is already on its way out.
 */

type Undo = () => void | Promise<void>;

/** How long one undo may take to take effect. */
const LIMIT_MS = 3_000;

const undos: Undo[] = [];

/** A signal is ending the run: what fails from then on fails because of that. */
export let interrupted = false;

/** Registers `undo`; the function that comes back forgets it, without running it. */
export function onCleanup(undo: Undo): () => void {
  undos.push(undo);
  return () => {
    const index = undos.lastIndexOf(undo);
    if (index >= 0) undos.splice(index, 1);
  };
}

/** Undoes all that is left. One failure does not keep the others from being undone. */
export async function cleanUp(): Promise<void> {
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
    const effect = attempt(undo);
    if (effect === undefined) continue;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LIMIT_MS);
    });
    await Promise.race([effect, limit]);
    clearTimeout(timer);
  }
}

/** Cleans up on the signals that end a benchmark run, and whatever else is left on exit. */
export function cleanUpAtEnd(): void {
  process.on('exit', () => {
    for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) attempt(undo);
  });
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      if (interrupted) return; // once is enough
      interrupted = true;
      void cleanUp().finally(() => process.exit(status));
    });
  }
}

function attempt(undo: Undo): Promise<void> | undefined {
  const complain = (error: unknown) =>
    console.error(`clean-up: ${error instanceof Error ? error.message : String(error)}`);
  try {
    return undo()?.catch(complain);
  } catch (error) {
    complain(error);
    return undefined;
  }
}
