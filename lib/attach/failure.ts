/**
 * What a failed step on devices becomes: an error that says what failed, what
 * state the device is in, and what to do.
 */
import type { NativeDmOutcome } from '../binding.js';
import { errnoName, SnapbakError, type SnapbakErrorCode } from '../errors.js';
import { isNativeError } from '../native-errors.js';

/** Not among the errors that Node.js names. */
const ELIBACC = 79;
const ENOKEY = 126;

/** What was being done, for the message: `cannot attach /dev/mapper/x: …`. */
export interface Doing {
  doing: 'attach' | 'detach';
  /** As the user wrote it. */
  path: string;
  /** The device's name in device-mapper. */
  name?: string;
}

/** A refusal of our own. */
export function refused(
  { doing, path }: Doing,
  reason: string,
  code: SnapbakErrorCode = 'ERR_SNAPBAK_ATTACH',
  cause?: unknown,
): SnapbakError {
  return new SnapbakError(code, `cannot ${doing} ${path}: ${reason}`, { path, cause });
}

/** What a request to device-mapper threw. */
export function requestFailure(error: unknown, what: Doing): unknown {
  if (SnapbakError.is(error) || !isNativeError(error)) return error;
  switch (Math.abs(error.errno)) {
    case ELIBACC:
      return refused(
        what,
        'libdevmapper is not installed (Debian and Ubuntu: apt-get install libdevmapper1.02.1)',
        'ERR_SNAPBAK_MISSING',
        error,
      );
    case 1: // EPERM
    case 13: // EACCES
      return refused(what, 'device-mapper obeys root only', 'ERR_SNAPBAK_PERMISSION', error);
    case 19: // ENODEV
      return refused(
        what,
        'this kernel has no device-mapper ("modprobe dm-mod")',
        'ERR_SNAPBAK_MISSING',
        error,
      );
    default:
      return failed(what, `device-mapper: ${nameOf(error.errno)}`, error.errno, error);
  }
}

const STEPS: Record<string, string> = {
  origin: 'reading its table',
  lower: 'reading the table of its lower device',
  open: 'opening it',
  create: 'making the device',
  'lower-create': 'making its lower device',
  'lower-load': 'giving its table to the lower device',
  'lower-resume': 'starting the lower device',
  load: 'loading its new table',
  resume: 'starting it',
  swap: 'exchanging its table',
  'lower-remove': 'removing its lower device',
  remove: 'removing the device',
  clear: 'forgetting the new table',
};

/** What an outcome that is not good becomes. */
export function outcomeFailure(outcome: NativeDmOutcome, what: Doing): SnapbakError {
  const { errno, step, undoErrno, undoStep, suspended } = outcome;
  let reason = `${STEPS[step] ?? step} failed: ${nameOf(errno)}`;
  const advice = adviceFor(step, Math.abs(errno), what);
  if (advice !== undefined) reason += ` (${advice})`;
  const { name = what.path } = what;
  if (suspended) {
    reason += `; THE DEVICE IS SUSPENDED, its writes wait: run "dmsetup resume ${name}" now`;
  } else if (undoErrno !== 0) {
    reason += `; what had been done could not be undone, ${STEPS[undoStep] ?? undoStep}: ${nameOf(undoErrno)}`;
    reason += `; the device works, "snapbak detach ${what.path}" clears up`;
  } else if (step === 'lower-remove') {
    reason += '; it is detached all the same';
  } else {
    reason += '; nothing was changed';
  }
  return failed(what, reason, errno);
}

function adviceFor(step: string, errno: number, { doing, name, path }: Doing): string | undefined {
  if (errno === ENOKEY) {
    const gone = 'the key of this LUKS volume is in no keyring any more; ';
    return doing === 'attach'
      ? `${gone}"cryptsetup refresh --disable-keyring ${name}" gives it to dm-crypt itself, then attach again`
      : `${gone}put it back by "keyctl padd", see docs/kernel-driver.md`;
  }
  const busy = errno === 16;
  switch (step) {
    case 'open':
      return busy ? 'it is in use: unmount it, and take it out of LVM or RAID, first' : undefined;
    case 'create':
      return busy ? 'there is a device of that name' : undefined;
    case 'lower-create':
      return busy ? `there is a device of the name of its lower device; is it attached already?` : undefined;
    case 'load':
      return errno === 22
        ? 'the kernel log says why; devices with DAX, and zoned ones, cannot be attached'
        : undefined;
    case 'swap':
      if (errno === 11) return 'another program changed it at the same time; try again';
      return busy ? 'is a file system on it frozen, by fsfreeze or a backup that starts?' : undefined;
    case 'lower-load':
      return 'the kernel log says why';
    case 'lower-remove':
      return busy ? `somebody has ${path}'s lower device open` : undefined;
    default:
      return undefined;
  }
}

function failed(what: Doing, reason: string, errno: number, cause?: unknown): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_ATTACH', `cannot ${what.doing} ${what.path}: ${reason}`, {
    path: what.path,
    errno: -Math.abs(errno),
    cause,
  });
}

function nameOf(errno: number): string {
  return Math.abs(errno) === ENOKEY ? 'ENOKEY' : errnoName(errno);
}
