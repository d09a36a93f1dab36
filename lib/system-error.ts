/**
 * What a failed system call becomes: a `SnapbakError` that says what was being
 * done, to which file, and why it failed.
 */
import { getSystemErrorMap } from 'node:util';
import { errnoName, SnapbakError, type SnapbakErrorCode } from './errors.js';

/** `ENOSPC` of an error that a system call or the addon made; else undefined. */
export function systemCode(error: unknown): string | undefined {
  const { code, errno } = (error ?? {}) as { code?: unknown; errno?: unknown };
  if (typeof code === 'string' && !code.startsWith('ERR_')) return code;
  return typeof errno === 'number' ? errnoName(errno) : undefined;
}

/**
 * `cause` as a `SnapbakError`: `doing`, then the reason in words. One that is
 * a `SnapbakError` already stays what it is.
 *
 * @param doing e.g. `cannot open the manifest /backup/manifest.json`
 */
export function systemError(
  code: SnapbakErrorCode,
  doing: string,
  cause: unknown,
  path?: string,
): SnapbakError {
  if (SnapbakError.is(cause)) return cause;
  const raw = (cause as { errno?: unknown } | null | undefined)?.errno;
  const errno = typeof raw === 'number' ? -Math.abs(raw) : undefined;
  const known = errno === undefined ? undefined : getSystemErrorMap().get(errno);
  const reason =
    known === undefined
      ? String((cause as Error | undefined)?.message ?? cause)
      : `${known[1]} (${known[0]})`;
  return new SnapbakError(code, `${doing}: ${reason}`, { cause, path, errno });
}
