/**
 * The clone of a backup, as a program sees it: its options, and what it tells.
 */
import { expectOptions, expectType } from '../arguments.js';
import type { SnapbakError } from '../errors.js';
import type { ServerExit } from '../serve/nbdkit-process.js';
import { checkedPath, checkedSocket } from '../serve/paths.js';

export interface CloneOptions {
  /**
   * Path of a file that is new or empty, or of a block device at least as large
   * as the origin. Not the origin, the target, nor anything that could wait for
   * writes of the origin. A device keeps what the block list does not name, and
   * a file has zeroes there.
   */
  to: string;
  /**
   * Path of a Unix socket at which NBD clients can use the clone, made with mode
   * 0600; at most 107 bytes. What they read comes first, whatever the rate; what
   * they write is kept. Default: nobody uses it before the backup has finished.
   */
  socket?: string | undefined;
  /** Overwrite a file that holds something, or a device with a file system, LVM or RAID. Default: false */
  force?: boolean | undefined;
}

/** The same, checked, paths absolute. */
export interface CheckedClone {
  to: string;
  socket: string | undefined;
  force: boolean;
}

export interface CloneStats {
  /** Bytes of the block list, in whole blocks. */
  totalBytes: number;
  /** Of these, bytes that are on the clone. */
  doneBytes: number;
  /** Blocks that do not come, and were not written since: they could not be read from the origin. */
  badBlocks: number;
  /** How often a client waited for a block. */
  demands: number;
  /** Blocks that clients wrote whole before they came: theirs were kept. */
  writtenBlocks: number;
}

/** How the clone was when the backup had finished. */
export interface CloneResult {
  to: string;
  /** `lost`: it failed. `closed`: you closed it before. It is not whole then. */
  state: 'complete' | 'complete-with-invalid-blocks' | 'lost' | 'closed';
  stats: CloneStats;
  /** Of a lost one. */
  message?: string;
}

/** The clone of a backup. */
export interface BackupClone extends AsyncDisposable {
  readonly to: string;
  /** How NBD clients name it, and nbdkit's process; with a `socket` only. */
  readonly uri: string | undefined;
  readonly pid: number | undefined;
  /** Why it was given up; also the event `clone-lost`. After the backup, which has no events then, its export ends. */
  readonly lost: SnapbakError | undefined;
  /** Resolves when nbdkit has ended, for whatever reason; never rejects. Undefined without a `socket`. */
  readonly exited: Promise<ServerExit> | undefined;
  /** Figures as of now; after the end, as of the end. */
  stats(): CloneStats;
  /**
   * Ends the export; what was written is durable then. With a `socket` the clone
   * outlives the backup: this is its end. Before the backup has finished, it
   * gives the clone up, and the backup goes on. Idempotent.
   *
   * @throws SnapbakError `ERR_SNAPBAK_CLONE` if it cannot be made durable
   */
  close(): Promise<void>;
}

/** @throws TypeError or RangeError that names the option and the value */
export function checkClone(value: unknown): CheckedClone | undefined {
  if (value === undefined) return undefined;
  expectOptions('options.clone', value, ['to', 'socket', 'force']);
  const { to, socket, force = false } = value as CloneOptions;
  expectType('options.clone.force', force, 'boolean');
  return {
    to: checkedPath('options.clone.to', to),
    socket: socket === undefined ? undefined : checkedSocket('options.clone.socket', socket),
    force,
  };
}
