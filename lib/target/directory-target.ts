/**
 * The usual target: a directory with the image as a sparse file, its checksums
 * and the manifest.
 */
import { resolve } from 'node:path';
import { expectType } from '../arguments.js';
import type { Host } from '../host.js';
import { BackupDirectory, IMAGE_NAME } from './backup-directory.js';
import { prepareDisks } from './disk-files.js';
import type { BackupTarget } from './target.js';

/**
 * A backup in a directory: `data.img` (raw, sparse, usable by any tool),
 * `checksums` and `manifest.json`; of several origins `NAME.img` and
 * `NAME.checksums` of each. Files have mode 0600.
 *
 * @param path of a directory that is empty, or does not exist (its parent
 *   does); it is then made with mode 0700
 * @throws TypeError if `path` is no string; `prepare()`: SnapbakError
 *   ERR_SNAPBAK_TARGET_REFUSED if the directory is not empty, or lies where it
 *   could depend on the origin (an NBD device, a loop device over a FUSE file,
 *   the origin itself); ERR_SNAPBAK_TARGET if it cannot be written
 * @example
 * await startBackup({ origin, target: directoryTarget('/backup/monday') });
 */
export function directoryTarget(path: string, parts: { host?: Host } = {}): BackupTarget {
  expectType('path', path, 'string');
  if (path === '') throw new RangeError('path must not be empty');
  const place = resolve(path);
  const image = { kind: 'file', name: IMAGE_NAME } as const;
  return {
    description: `directory ${place}`,
    async prepare(context) {
      const directory = await BackupDirectory.create(place, context, parts.host);
      const file = await directory.createFile(IMAGE_NAME, context.size).catch(async (error: unknown) => {
        await directory.close();
        throw error;
      });
      return {
        native: { fd: file.fd, fresh: true },
        checksumsFd: directory.checksumsFd,
        image,
        commit: (draft) => directory.commit(draft, image, file),
        fail: (draft) => directory.fail(draft, image),
        close: () => directory.close(),
      };
    },
    prepareGroup: (disks) => prepareDisks(place, disks, parts.host),
  };
}
