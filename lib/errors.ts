/**
 * The one error class of Snapbak, its codes, and how an errno becomes one.
 * Misuse of an argument is a `TypeError` or `RangeError` instead.
 */
import { getSystemErrorName } from 'node:util';

/** Every code that a `SnapbakError` can carry, and when. */
export const ERROR_CODES = {
  /** The origin could not be opened. */
  ERR_SNAPBAK_ORIGIN: 'origin',
  /** The kernel driver was not attached or detached: the device is refused, or a step failed. */
  ERR_SNAPBAK_ATTACH: 'attach',
  /** The origin has a session already. */
  ERR_SNAPBAK_BUSY: 'busy',
  /** The control socket answered something that is not the contract. */
  ERR_SNAPBAK_PROTOCOL: 'protocol',
  /** The driver speaks another version of the contract. */
  ERR_SNAPBAK_VERSION: 'version',
  /** The driver refused, e.g. another user's process. */
  ERR_SNAPBAK_PERMISSION: 'permission',
  /** The driver died or closed the connection during the session. */
  ERR_SNAPBAK_DRIVER_GONE: 'driver-gone',
  /** Writes in flight, or file systems to be frozen, did not come to rest in time: the point in time could not be fixed. */
  ERR_SNAPBAK_START_TIMEOUT: 'start-timeout',
  /** A hook before the start failed, or took too long: nothing was started. Or one after it, which spoils nothing. */
  ERR_SNAPBAK_HOOK: 'hook',
  /** No backup of the origin runs. */
  ERR_SNAPBAK_NO_SESSION: 'no-session',
  /** The session broke: a write was held longer than `holdTimeout`, with `onFull: 'break'`. */
  ERR_SNAPBAK_HOLD_TIMEOUT: 'hold-timeout',
  /** The session broke: nothing was drained for `stallTimeout` while writes were held. */
  ERR_SNAPBAK_STALLED: 'stalled',
  /** The session broke for another reason that the driver gave. */
  ERR_SNAPBAK_BROKEN: 'broken',
  /** The backup was aborted, by `abort()`, a signal or `close()`. */
  ERR_SNAPBAK_ABORTED: 'aborted',
  /** Writing to the target failed. */
  ERR_SNAPBAK_TARGET: 'target',
  /** The target is refused: it exists, holds a signature, is too small, … */
  ERR_SNAPBAK_TARGET_REFUSED: 'target-refused',
  /** The container is refused, or could not be made. */
  ERR_SNAPBAK_CONTAINER: 'container',
  /** The container keeps its size: it cannot be resized, or no backup uses it, or there is no space. */
  ERR_SNAPBAK_RESIZE: 'resize',
  /** Blocks that only the container held are lost. */
  ERR_SNAPBAK_CONTAINER_LOST: 'container-lost',
  /** The manifest is missing, damaged, foreign or newer than this version. */
  ERR_SNAPBAK_MANIFEST: 'manifest',
  /** The backup is not complete. */
  ERR_SNAPBAK_INCOMPLETE: 'incomplete',
  /** The image or its checksums are damaged. */
  ERR_SNAPBAK_CORRUPT: 'corrupt',
  /** Writing the restored device failed, or it is refused. */
  ERR_SNAPBAK_RESTORE: 'restore',
  /** A block list is not well formed. */
  ERR_SNAPBAK_BLOCK_LIST: 'block-list',
  /** A program or a package that is needed is not installed. */
  ERR_SNAPBAK_MISSING: 'missing',
  /** The clone is refused, or writing to it failed and it was given up: see `BackupOptions.clone`. */
  ERR_SNAPBAK_CLONE: 'clone',
  /** The start instant cannot be read (any more): see `Backup.view()`. */
  ERR_SNAPBAK_VIEW: 'view',
  /** Nothing above fits. */
  ERR_SNAPBAK_IO: 'io',
} as const;

export type SnapbakErrorCode = keyof typeof ERROR_CODES;

export interface SnapbakErrorDetails {
  cause?: unknown;
  /** The file, socket or device it is about. */
  path?: string | undefined;
  /** Negative errno of the system call that failed. */
  errno?: number | undefined;
  /** The bytes it is about. */
  extent?: { offset: number; length: number } | undefined;
}

const brand = Symbol.for('@snapbak/core.SnapbakError');

/** What went wrong, to what, and what to do: `message` in words, the rest for programs. */
export class SnapbakError extends Error {
  override readonly name = 'SnapbakError';
  readonly code: SnapbakErrorCode;
  readonly path?: string;
  readonly errno?: number;
  readonly extent?: { offset: number; length: number };

  constructor(code: SnapbakErrorCode, message: string, details: SnapbakErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    if (details.path !== undefined) this.path = details.path;
    if (details.errno !== undefined) this.errno = details.errno;
    if (details.extent !== undefined) this.extent = details.extent;
    Object.defineProperty(this, brand, { value: true });
  }

  /** True for a `SnapbakError` of any copy of this package. */
  static is(value: unknown): value is SnapbakError {
    return typeof value === 'object' && value !== null && brand in value;
  }
}

/** `ENOSPC` for -28; `errno 9999` for what has no name. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-Math.abs(errno));
  } catch {
    return `errno ${Math.abs(errno)}`;
  }
}
