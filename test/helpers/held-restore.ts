/**
 * A restore on demand that brings only what clients ask for, to be killed: it
 * can never be done before. Says what it has begun, as the program does.
 *   held-restore.ts BACKUP TO SOCKET
 */
import { binding, type NativeBinding } from '../../lib/binding.js';
import { restoreOnDemand } from '../../lib/restore/on-demand.js';

/** This file, as a program. */
export const HELD_RESTORE = import.meta.filename;

/** The addon without the threads that bring the rest. */
export function withoutBackground(): NativeBinding {
  const native = binding();
  return { ...native, openLazyRestore: (options) => native.openLazyRestore({ ...options, threads: 0 }) };
}

const [backup, to, socket] = process.argv.slice(2);
if (process.argv[1] === HELD_RESTORE && backup !== undefined) {
  const { uri, resumed } = await restoreOnDemand(
    { backup, to: to!, socket: socket! },
    { native: withoutBackground },
  );
  console.log(JSON.stringify({ event: 'started', uri, resumed }));
}
