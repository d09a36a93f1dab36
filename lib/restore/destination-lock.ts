/**
 * The lock that keeps two restores, and a restore and a driver that serves the
 * same, from each other.
 */
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { NativeBinding } from '../binding.js';
import { systemCode } from '../system-error.js';

/** udevd looks at a device, with a lock of its own, whenever somebody who could write it has closed it. */
export const DEVICE_PATIENCE_MS = 1000;
const PAUSE_MS = 20;

/**
 * Takes it, for as long as the file is open; true as well on a file system that has no locks.
 *
 * @param patience for how many milliseconds it is asked for again. Default: 0
 * @returns false if another has it
 */
export async function takeLock(file: FileHandle, native: NativeBinding, patience = 0): Promise<boolean> {
  for (const until = performance.now() + patience; ; await delay(PAUSE_MS)) {
    try {
      native.lockFile(file.fd);
      return true;
    } catch (cause) {
      if (systemCode(cause) !== 'EBUSY') return true;
      if (performance.now() >= until) return false;
    }
  }
}
