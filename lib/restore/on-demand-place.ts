/** Where a restore on demand goes, and the state file beside it: begun, or gone on with. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import type { Host } from '../host.js';
import type { BackupFiles } from './backup-files.js';
import { type Destination, openDestination, reopenDestination } from './destination.js';
import {
  defaultStatePath,
  destinationIdentity,
  makeState,
  openState,
  type RestoreStateFile,
  restoreJob,
} from './restore-state.js';

export interface Place {
  destination: Destination;
  state: RestoreStateFile;
  resumed: boolean;
  /** Of a restore that began and is not to be: what was made for it goes. While both are open. */
  undo(): Promise<void>;
}

/** The destination, and the state file that says what of it is there. */
export async function openPlace(
  { to, state, resume, force }: { to: string; state: string | undefined; resume: boolean; force: boolean },
  files: BackupFiles,
  native: NativeBinding,
  host: Host | undefined,
): Promise<Place> {
  const found = await stat(to).catch(() => undefined);
  const path = resolve(state ?? defaultStatePath(to, found?.isBlockDevice() ?? false));
  const interrupted = await openState(path);
  const refused = (why: string) =>
    new SnapbakError('ERR_SNAPBAK_RESTORE', `restore refused: ${why}`, { path });
  if (interrupted === undefined) {
    if (resume) throw refused(`there is no state file ${path} of an interrupted restore`);
    const { size } = files.manifest;
    const destination = await openDestination(to, { size, force, not: files.own, native, host });
    try {
      // the file must be there after a loss of power if the state file is
      await destination.commit();
      const job = restoreJob(files.manifest, to, await destinationIdentity(to));
      const made = await makeState(path, job, native);
      const undo = async () => {
        try {
          await made.remove();
        } finally {
          await destination.discard();
        }
      };
      return { destination, state: made, resumed: false, undo };
    } catch (error) {
      await destination.discard();
      await destination.close();
      throw error;
    }
  }
  try {
    const job = restoreJob(files.manifest, to, await destinationIdentity(to).catch(() => 'gone'));
    const other = (['backup', 'checksums', 'size', 'blockSize'] as const).some(
      (key) => job[key] !== interrupted.job[key],
    );
    const anew = `; remove ${path} to begin anew, which overwrites what was written since`;
    if (other) throw refused(`${path} is of the restore of another backup${anew}`);
    if (job.destination !== interrupted.job.destination) {
      throw refused(`${to} is not what ${path} was made for (${interrupted.job.to})${anew}`);
    }
    const destination = await reopenDestination(to, files, native, host);
    return { destination, state: interrupted, resumed: true, async undo() {} };
  } catch (error) {
    await interrupted.file.close();
    throw error;
  }
}
