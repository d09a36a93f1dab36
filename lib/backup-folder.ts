/**
 * A backup's directory, held open while its files are: whoever moves it away
 * meanwhile, and puts a link in its place, leads nobody elsewhere.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapbakError } from './errors.js';
import { systemCode } from './system-error.js';

export class BackupFolder {
  private constructor(
    /** What the user calls it, for messages. */
    readonly path: string,
    private readonly handle: FileHandle,
  ) {}

  /** @throws the system's error, e.g. ENOENT or ENOTDIR */
  static async open(path: string): Promise<BackupFolder> {
    return new BackupFolder(path, await open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }

  /** The way to this very directory, whatever its name means by now. Good until `close()`. */
  get place(): string {
    return `/proc/self/fd/${this.handle.fd}`;
  }

  /**
   * Opens a regular file in it for reading. A symbolic link (it could lead out)
   * or anything that is no regular file is refused unopened: to open a pipe can
   * hang, to open a device can have effects.
   *
   * @throws SnapbakError ERR_SNAPBAK_MANIFEST; the system's errors as they are
   */
  async openFile(name: string): Promise<FileHandle> {
    const path = join(this.path, name);
    const place = join(this.place, name);
    const found = await lstat(place);
    if (found.isSymbolicLink()) throw refused(path, 'is a symbolic link; the files of a backup must not be');
    if (!found.isFile()) throw refused(path, 'is no regular file');
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
    const file = await open(place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((cause: unknown) => {
      if (systemCode(cause) === 'ELOOP') throw refused(path, 'became a symbolic link', cause);
      throw cause;
    });
    if ((await file.stat()).isFile()) return file;
    await file.close();
    throw refused(path, 'is no regular file any more');
  }

  close(): Promise<void> {
    return this.handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function refused(path: string, what: string, cause?: unknown): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_MANIFEST', `${path} ${what}`, { cause, path });
}
