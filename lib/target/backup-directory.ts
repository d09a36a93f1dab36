/**
 * The directory of a backup: made or taken over empty, filled with files of
 * ours only, and sealed by the manifest. What directory and device targets
 * have in common.
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BackupFolder } from '../backup-folder.js';
import { SnapbakError } from '../errors.js';
import { type Host, thisHost } from '../host.js';
import {
  completeDraft,
  type GroupManifest,
  loadChecks,
  MANIFEST_NAME,
  type Manifest,
  type ManifestDraft,
  syncDirectory,
  writeManifest,
} from '../manifest.js';
import { checksumsSize } from '../manifest-format.js';
import { fileDependence, isOrigin } from '../placement.js';
import { sha256Of } from '../sha256.js';
import { systemCode, systemError } from '../system-error.js';
import type { TargetContext } from './target.js';

/** The image's name in a backup's directory. */
export const IMAGE_NAME = 'data.img';
/** The checksums' name in a backup's directory. */
export const CHECKSUMS_NAME = 'checksums';

/** The error of a target that may not be used. */
export function refused(path: string, reason: string): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_TARGET_REFUSED', `target refused: ${path} ${reason}`, { path });
}

export class BackupDirectory {
  #checksums!: FileHandle;
  #folder!: BackupFolder;
  readonly #files: FileHandle[] = [];
  readonly #names: string[] = [];
  #fate: 'unused' | 'trying' | 'committed' | 'failed' = 'unused';
  #closing: Promise<void> | undefined;

  private constructor(
    private readonly path: string,
    private readonly made: boolean,
  ) {}

  /**
   * Checks the place, makes the directory where there is none (mode 0700), and
   * the file for the checksums in it.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET_REFUSED, ERR_SNAPBAK_TARGET
   */
  static async create(path: string, context: TargetContext, host: Host = thisHost): Promise<BackupDirectory> {
    const directory = await BackupDirectory.make(path, [context], host);
    try {
      const bytes = checksumsSize(context.size, context.blockSize);
      directory.#checksums = await directory.createFile(CHECKSUMS_NAME, bytes);
      return directory;
    } catch (cause) {
      await directory.close();
      throw systemError('ERR_SNAPBAK_TARGET', `cannot write to the directory ${path}`, cause, path);
    }
  }

  /** The same without any file in it, for a backup of all these origins. */
  static async make(
    path: string,
    contexts: readonly TargetContext[],
    host: Host = thisHost,
  ): Promise<BackupDirectory> {
    let exists = false;
    for (const context of contexts) exists = await checkPlace(path, context, host);
    if (!exists) {
      await mkdir(path, { mode: 0o700 }).catch((cause: unknown) => {
        throw systemError('ERR_SNAPBAK_TARGET', `cannot make the directory ${path}`, cause, path);
      });
    }
    const directory = new BackupDirectory(path, !exists);
    try {
      await loadChecks();
      directory.#folder = await BackupFolder.open(path);
      // a name that is not durable could take a complete backup away with it
      if (!exists) await syncDirectory(dirname(path));
      return directory;
    } catch (cause) {
      await directory.close();
      throw systemError('ERR_SNAPBAK_TARGET', `cannot write to the directory ${path}`, cause, path);
    }
  }

  /** Descriptor of `checksums`, for reading and writing. */
  get checksumsFd(): number {
    return this.#checksums.fd;
  }

  /** A new file of `size` zero bytes, sparse, mode 0600. */
  async createFile(name: string, size: number): Promise<FileHandle> {
    const path = join(this.path, name);
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    try {
      const file = await open(join(this.#folder.place, name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      this.#files.push(file);
      this.#names.push(name);
      await file.truncate(size);
      return file;
    } catch (cause) {
      throw systemError('ERR_SNAPBAK_TARGET', `cannot make ${path} of ${size} bytes`, cause, path);
    }
  }

  /**
   * Makes image and checksums durable, then the manifest.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET
   */
  async commit(draft: ManifestDraft, image: Manifest['image'], imageFile: FileHandle): Promise<Manifest> {
    if (draft.state === 'broken') throw new RangeError('a backup that is committed must not be broken');
    return await this.seal(async () => {
      await imageFile.datasync();
      await this.#checksums.datasync();
      return await this.#manifest(draft, image);
    });
  }

  /**
   * Makes the names in the directory durable, and then the manifest. What `make`
   * gives is durable already.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET
   */
  async seal<M extends Manifest | GroupManifest>(make: () => Promise<M>): Promise<M> {
    this.#fate = 'trying';
    try {
      const manifest = await make();
      await syncDirectory(this.#folder.place);
      await writeManifest(this.path, manifest, this.#folder.place);
      this.#fate = 'committed';
      return manifest;
    } catch (cause) {
      throw systemError('ERR_SNAPBAK_TARGET', `cannot complete the backup in ${this.path}`, cause, this.path);
    }
  }

  /** Leaves a manifest that says broken, if it can. */
  async fail(draft: ManifestDraft, image: Manifest['image']): Promise<void> {
    if (this.#fate === 'committed') return;
    this.#fate = 'failed';
    // what made the backup fail may keep this from being written, too: no manifest says broken as well
    await this.#manifest({ ...draft, state: 'broken' }, image)
      .then((manifest) => writeManifest(this.path, manifest, this.#folder.place))
      .catch(() => {});
  }

  async #manifest(draft: ManifestDraft, image: Manifest['image']): Promise<Manifest> {
    const sha256 = await sha256Of(this.#checksums);
    return completeDraft(draft, image, { name: CHECKSUMS_NAME, algorithm: 'crc32c', sha256 });
  }

  /** Closes the files; removes what was made if the backup never began. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const file of this.#files) await file.close();
    if (this.#fate === 'unused') {
      for (const name of this.#names) await unlink(join(this.#folder.place, name)).catch(() => {});
    }
    await this.#folder?.close();
    if (this.#fate !== 'unused') return;
    if (this.made) await rmdir(this.path).catch(() => {});
  }
}

/** Whether the directory exists (then it is empty); throws if it cannot be used. */
async function checkPlace(path: string, { origin }: TargetContext, host: Host): Promise<boolean> {
  if (await isOrigin(path, origin, host)) throw refused(path, 'is the origin itself');
  let names: string[] | undefined;
  try {
    names = await readdir(path);
  } catch (cause) {
    if (systemCode(cause) === 'ENOTDIR') throw refused(path, 'is no directory');
    if (systemCode(cause) !== 'ENOENT') {
      throw systemError(
        'ERR_SNAPBAK_TARGET_REFUSED',
        `target refused: cannot look into ${path}`,
        cause,
        path,
      );
    }
  }
  if (names?.includes(MANIFEST_NAME))
    throw refused(path, 'holds a backup already; name a directory that does not exist');
  if (names !== undefined && names.length > 0) {
    throw refused(path, 'is not empty; name a directory that is empty or does not exist');
  }
  const holder = names === undefined ? dirname(path) : path;
  if ((await host.identify(holder)) === undefined) {
    throw refused(path, `cannot be made: its parent directory ${holder} does not exist`);
  }
  const dependence = await fileDependence(holder, origin, host);
  if (dependence !== undefined) {
    throw refused(path, `could wait for the writes that the backup holds: it ${dependence}`);
  }
  return names !== undefined;
}
