/**
 * One disk of a backup of several, seen as a backup of its own: whatever
 * restores, verifies or shows a backup needs to know of one kind only.
 */
import { show } from './extent.js';
import { FORMAT_VERSION, type GroupManifest, type Manifest } from './manifest-format.js';

/**
 * What a manifest says of one disk, in the form of a backup of its own.
 *
 * @throws RangeError that names the disks there are, if none or another is
 *   named; or if one is, and the backup is of one origin
 */
export function diskOf(
  manifest: Manifest | GroupManifest,
  directory: string,
  disk: string | undefined,
): Manifest {
  if (!('disks' in manifest)) {
    if (disk === undefined) return manifest;
    throw new RangeError(`disk must not be given: the backup in ${directory} is of one origin`);
  }
  const { disks, tool, id, createdAt, startedAt, finishedAt } = manifest;
  const names = disks.map(({ name }) => name).join(', ');
  if (disk === undefined) {
    throw new RangeError(`disk must be given (--disk): the backup in ${directory} is of several: ${names}`);
  }
  const found = disks.find(({ name }) => name === disk);
  if (found === undefined) throw new RangeError(`disk must be one of ${names}, not ${show(disk)}`);
  const { name: _, ...rest } = found;
  return { formatVersion: FORMAT_VERSION, tool, id, createdAt, startedAt, finishedAt, ...rest };
}
