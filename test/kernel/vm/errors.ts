/** What can go wrong with a virtual machine, apart from the command's own exit status. */

/**
 * - `report`: the kernel complained (a warning, an oops, a hung task, a leak, lockdep, KASAN, ...)
 * - `timeout`: the command did not end in time
 * - `died`: the machine went down before the command ended
 * - `boot`: the machine never came to its command
 * - `emulator`: QEMU ran stale code (its bug, not the kernel's)
 * - `status`: the command was to succeed and did not
 * - `rig`: the host lacks something, or the arguments are wrong
 */
export type VmErrorCode = 'report' | 'timeout' | 'died' | 'boot' | 'emulator' | 'status' | 'rig';

/** What the machine and its command said until the error. */
export interface VmOutput {
  stdout: string;
  stderr: string;
  /** The kernel's messages of the level warning and above. */
  console: string;
}

export class VmError extends Error {
  override name = 'VmError';

  constructor(
    readonly code: VmErrorCode,
    message: string,
    readonly output: VmOutput = { stdout: '', stderr: '', console: '' },
  ) {
    super(message);
  }
}
