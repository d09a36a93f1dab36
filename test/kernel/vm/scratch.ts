/** A run's own folder on the host: sockets, scratch disks, the command, and where virtiofsd sees the root. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAME = 'snapbak-vm-';

/** Makes the folder, and removes those of runs that were killed. */
export function makeScratch(): string {
  const parent = realpathSync(tmpdir());
  for (const entry of readdirSync(parent)) {
    const pid = entry.startsWith(NAME) ? /^\d+/.exec(entry.slice(NAME.length))?.[0] : undefined;
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) removeScratch(join(parent, entry));
  }
  const scratch = mkdtempSync(join(parent, `${NAME}${process.pid}-`));
  mkdirSync(rootFolder(scratch));
  return scratch;
}

/** Where this machine's root is mounted, in the mount namespace of virtiofsd. */
export const rootFolder = (scratch: string) => join(scratch, 'root');

export function removeScratch(scratch: string): void {
  // not recursively: were the root mounted here after all, this must fail and not empty it
  if (existsSync(rootFolder(scratch))) rmdirSync(rootFolder(scratch));
  rmSync(scratch, { recursive: true, force: true });
}
