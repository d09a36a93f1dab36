/**
 * What the exit status of `snapbak` says, and the status of an error.
 */
import { CommanderError } from 'commander';
import { SnapbakError } from '../errors.js';

export const EXIT = {
  /** All is good. */
  good: 0,
  /** It failed. */
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The backup broke, or was stopped; the origin is fine. */
  broken: 3,
  /** It is done, with blocks that could not be read from the origin. */
  invalidBlocks: 4,
  /** The backup is done, and the clone that was to be made beside it was lost, or its export ended by itself. */
  cloneLost: 5,
} as const;

/** For the help of every command. */
export const EXIT_HELP = `
Exit status:
  0  good
  1  failed
  2  wrong use
  3  the backup broke, or was stopped by a signal (Ctrl-C); the origin is fine
  4  done, but with blocks that could not be read from the origin
  5  the backup is done, but not its clone (--clone-to); the manifest tells of blocks that could not be read`;

/** The status of a command that ended with `error`. */
export function exitStatusOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.good : EXIT.usage;
  if (SnapbakError.is(error)) return error.code === 'ERR_SNAPBAK_ABORTED' ? EXIT.broken : EXIT.failed;
  return isMisuse(error) ? EXIT.usage : EXIT.failed;
}

/** A check of an argument in the library said no; errors of Node itself carry a code. */
export function isMisuse(error: unknown): error is TypeError | RangeError {
  return (error instanceof TypeError || error instanceof RangeError) && !('code' in error);
}
