/**
 * `snapbak backup … --clone-to`: what of the command line is about the clone,
 * and the time after the backup in which it is served.
 */

import type { BackupClone, CloneOptions } from '../backup/clone-options.js';
import type { Backup } from '../backup.js';
import { endedUnasked } from '../restore/serve-backup.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-status.js';

/** The option of `startBackup`, for its parts on the command line. */
export function cloneOption(flags: { cloneTo?: string; cloneExport?: string; force?: boolean }): {
  clone?: CloneOptions;
} {
  const { cloneTo: to, cloneExport: socket, force } = flags;
  if (to === undefined && socket !== undefined) throw new RangeError('--clone-export needs --clone-to');
  return to === undefined ? {} : { clone: { to, socket, force } };
}

/** Where the clone can be used, as soon as it can. */
export function announceClone({ clone }: Backup, json: boolean, { output }: Cli): void {
  if (clone?.uri === undefined) return;
  const { to, uri, pid } = clone;
  if (json) output.event({ event: 'clone', to, uri, pid });
  else output.line(`the clone is at ${uri}`);
}

/**
 * The backup has finished: goes on serving its clone until `signal`, for a
 * machine may run on it. Sets the exit status where the clone is not what was
 * asked for; that of invalid blocks gives way, as the manifest has them.
 */
export async function endClone(backup: Backup, json: boolean, cli: Cli, signal: AbortSignal): Promise<void> {
  const { clone } = backup;
  if (clone === undefined) return;
  if ((await backup.finished).clone?.state === 'lost') return cli.exit(EXIT.cloneLost);
  if (clone.exited === undefined) return;
  if (!json) cli.output.line('the clone is served until stopped');
  const failure = await served(clone, signal);
  if (failure === undefined) {
    const { writtenBlocks, demands } = clone.stats();
    if (json) cli.output.event({ event: 'clone-closed', to: clone.to, writtenBlocks, demands });
    return;
  }
  cli.output.error(failure, json);
  cli.exit(EXIT.cloneLost);
}

/** Waits for the end of the export, and gives what went wrong. */
async function served(clone: BackupClone, signal: AbortSignal): Promise<unknown> {
  const stop = () => void clone.close().catch(() => {}); // told below
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  const ended = await clone.exited;
  signal.removeEventListener('abort', stop);
  try {
    await clone.close();
  } catch (error) {
    return error;
  }
  if (clone.lost !== undefined) return clone.lost;
  return ended?.asked === false ? endedUnasked(ended, clone.to) : undefined;
}
