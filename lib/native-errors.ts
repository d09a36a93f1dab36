/**
 * Turns what a native call throws (an errno, and the stage that failed) into
 * the one `SnapbakError` that says what failed, to what, and what to do.
 */
import type { NativeError } from './binding.js';
import { errnoName, SnapbakError, type SnapbakErrorCode } from './errors.js';
import { deviceNumber } from './host.js';

/** What the caller was doing, for the message. */
export interface NativeContext {
  /** The origin, socket, file or directory it is about, as the user wrote it. */
  path: string;
  /** The step, as `cannot …` is continued, e.g. `open the origin`. */
  doing: string;
  /** It is an image in this process: nobody serves it. */
  local?: boolean;
  /** The stage, where the native error names none. */
  stage?: string;
}

interface Meaning {
  code: SnapbakErrorCode;
  advice: string;
}

const ANYWHERE: Record<string, Meaning> = {
  EPROTO: {
    code: 'ERR_SNAPBAK_PROTOCOL',
    advice:
      'what answered does not speak the contract of Snapbak; is this the control socket, not the NBD socket?',
  },
  EPROTONOSUPPORT: {
    code: 'ERR_SNAPBAK_VERSION',
    advice: 'the driver speaks another version of the contract; update the older of the two',
  },
  ECONNRESET: {
    code: 'ERR_SNAPBAK_DRIVER_GONE',
    advice: 'the driver died or closed the connection; its log says why',
  },
};
ANYWHERE.EPIPE = ANYWHERE.ECONNRESET!;
ANYWHERE.ENOTCONN = ANYWHERE.ECONNRESET!;

/** Before the peer ever answered, a closed connection says that it is no driver of ours. */
const FIRST_STAGES = new Set(['connect', 'query', 'status']);
const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'ENOTCONN']);

const OPENING: Record<string, Meaning> = {
  EBUSY: {
    code: 'ERR_SNAPBAK_BUSY',
    advice: 'another session runs on this origin; wait for its end, or abort it (see "snapbak status")',
  },
  EPERM: {
    code: 'ERR_SNAPBAK_PERMISSION',
    advice: 'only root and the user that runs the driver may use it',
  },
  ENODEV: {
    code: 'ERR_SNAPBAK_ORIGIN',
    advice: 'the kernel driver is not attached to it; run "snapbak attach" on it first',
  },
  ENXIO: {
    code: 'ERR_SNAPBAK_ORIGIN',
    advice: 'the device under it has no node in /dev; is udev, or "dmsetup mknodes", at work?',
  },
  ENOENT: {
    code: 'ERR_SNAPBAK_ORIGIN',
    advice: 'nothing is there; is the path right, and is "snapbak serve" running?',
  },
  ECONNREFUSED: {
    code: 'ERR_SNAPBAK_ORIGIN',
    advice: 'nobody listens there any more; start "snapbak serve" again',
  },
};
OPENING.EACCES = OPENING.EPERM!;

/** Opening the control device of the kernel module. */
const MODULE: Record<string, Meaning> = {
  ENOENT: {
    code: 'ERR_SNAPBAK_MISSING',
    advice:
      'the kernel module dm-snapbak is not loaded: run "modprobe dm-snapbak"; ' +
      'if there is none for this kernel, "snapbak module install" first',
  },
  EPERM: { code: 'ERR_SNAPBAK_PERMISSION', advice: 'the kernel driver obeys root only (CAP_SYS_ADMIN)' },
  EPROTONOSUPPORT: {
    code: 'ERR_SNAPBAK_VERSION',
    advice:
      'the loaded kernel module speaks another version of the contract; "snapbak module status" says which, ' +
      '"snapbak module install" makes the one that fits',
  },
};
MODULE.ENXIO = MODULE.ENODEV = MODULE.ENOENT!;
MODULE.EACCES = MODULE.EPERM!;

const START: Record<string, Meaning> = {
  ETIMEDOUT: {
    code: 'ERR_SNAPBAK_START_TIMEOUT',
    advice:
      'writes in flight, or file systems that had to be frozen, did not come to rest in time; nothing was changed; ' +
      'try again, or with a longer startTimeout',
  },
  EBUSY: {
    code: 'ERR_SNAPBAK_BUSY',
    advice: 'a file system on it is frozen already, or the device is suspended; nothing was changed',
  },
};

const STOP: Record<string, Meaning> = {
  ...START,
  ENOTTY: {
    code: 'ERR_SNAPBAK_VERSION',
    advice: 'the driver is older than backups of several origins; update it, and restart what it serves',
  },
};

const HINT: Record<string, Meaning> = {
  ENODATA: { code: 'ERR_SNAPBAK_NO_SESSION', advice: 'no backup of it runs, so there is nobody to tell' },
  ENOTTY: { code: 'ERR_SNAPBAK_VERSION', advice: 'the driver is older than hints; update it' },
};

const TARGET_STAGES = new Set(['target', 'checksums']);
const STAGES: Record<string, Record<string, Meaning>> = {
  module: MODULE,
  start: START,
  stop: STOP,
  hint: HINT,
};
const OPENING_STAGES = new Set(['open', 'connect', 'module', 'query', 'status', 'session', 'resolve']);

/** True for an error that a native call made. */
export function isNativeError(error: unknown): error is NativeError {
  return error instanceof Error && typeof (error as Partial<NativeError>).errno === 'number';
}

/**
 * The error to throw for `error`. A `SnapbakError` stays what it is, and so
 * does anything without an errno: that is a mistake in a program, not in the
 * world.
 */
export function fromNative(error: unknown, context: NativeContext): Error {
  if (SnapbakError.is(error)) return error;
  if (!isNativeError(error)) return error instanceof Error ? error : new Error(String(error));
  const stage = error.stage ?? context.stage ?? '';
  const name = errnoName(error.errno);
  const { code, advice } = context.local ? localMeaning(name) : meaning(name, stage);
  const at = error.device === undefined ? '' : ` at device ${deviceNumber(error.device)}`;
  const message = `cannot ${context.doing}: ${context.path}: ${name}${at}${advice === '' ? '' : ` (${advice})`}`;
  return new SnapbakError(code, message, { cause: error, path: context.path, errno: -Math.abs(error.errno) });
}

function meaning(name: string, stage: string): Meaning {
  if (TARGET_STAGES.has(stage)) return { code: 'ERR_SNAPBAK_TARGET', advice: targetAdvice(name) };
  const known = STAGES[stage]?.[name];
  if (known !== undefined) return known;
  if (FIRST_STAGES.has(stage) && CLOSED.has(name)) return ANYWHERE.EPROTO!;
  const anywhere = ANYWHERE[name];
  if (anywhere !== undefined) return anywhere;
  const opening = OPENING[name];
  if (opening !== undefined && (stage === '' || OPENING_STAGES.has(stage))) return opening;
  if (name === 'EPERM' || name === 'EACCES') return OPENING.EPERM!;
  if (OPENING_STAGES.has(stage)) return { code: 'ERR_SNAPBAK_ORIGIN', advice: '' };
  if (name === 'ENOMEM') {
    return { code: 'ERR_SNAPBAK_IO', advice: 'not enough memory for the slots; take a smaller container' };
  }
  return { code: 'ERR_SNAPBAK_IO', advice: '' };
}

function localMeaning(name: string): Meaning {
  switch (name) {
    case 'ENOENT':
      return { code: 'ERR_SNAPBAK_ORIGIN', advice: 'there is no such file or device' };
    case 'EPERM':
    case 'EACCES':
      return { code: 'ERR_SNAPBAK_PERMISSION', advice: 'this user may not open it' };
    default:
      return { code: 'ERR_SNAPBAK_ORIGIN', advice: '' };
  }
}

/** What to do about a target that cannot be written. */
export function targetAdvice(name: string): string {
  switch (name) {
    case 'ENOSPC':
    case 'EDQUOT':
      return 'the target is full; make room and start again';
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return 'the target may not be written';
    default:
      return '';
  }
}
