/**
 * A target written in JavaScript: an object of the user's takes the blocks, and
 * if it likes the checksums and the manifest. The only target whose data
 * crosses the JavaScript thread.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expectOptions, expectType } from '../arguments.js';
import { SnapbakError } from '../errors.js';
import { show } from '../extent.js';
import { type Host, thisHost } from '../host.js';
import { completeDraft, type Manifest, type ManifestDraft } from '../manifest.js';
import { checksumsSize } from '../manifest-format.js';
import { fileDependence } from '../placement.js';
import { sha256Of } from '../sha256.js';
import { systemError } from '../system-error.js';
import { CHECKSUMS_NAME } from './backup-directory.js';
import type { BackupTarget, PreparedTarget, TargetContext } from './target.js';

/**
 * A target written in JavaScript. Each method may return a promise; what it
 * throws ends the backup. In this order: `write` (few at a time, in any order
 * of offsets, each byte once, only listed blocks), `flush`, `checksums` from
 * its start to its end, `manifest`, `close`.
 */
export interface CustomTarget {
  /** Stores `data`, which is the target's to keep, at `offset` bytes of the image. */
  write(offset: number, data: Buffer): Promise<void> | void;
  /** What was written is durable once this is done. */
  flush(): Promise<void> | void;
  /**
   * `length` bytes from `offset` on, all of them written before and done (what
   * `write` of them returned is fulfilled): for `Backup.view()`, which is refused
   * without it.
   */
  read?(offset: number, length: number): Promise<Uint8Array> | Uint8Array;
  /** Called once at the end, also if the backup broke; after that of the last view. */
  close(): Promise<void> | void;
  /** A piece of the `checksums` file (a CRC32C a block, 4 bytes little-endian). */
  checksums?(offset: number, data: Buffer): Promise<void> | void;
  /** The manifest: the backup is good if its `state` says so; `broken` comes without the checksums. */
  manifest?(manifest: Manifest): Promise<void> | void;
}

/** How a target written in JavaScript is used. */
export interface CustomTargetOptions {
  /**
   * Where the checksums are gathered, in a file without a name: 64 MiB a TiB at
   * blocks of 64 KiB. Default: the system's directory for temporary files
   */
  temporaryDirectory?: string;
}

/** Bytes of a piece that `checksums()` takes. */
const PIECE = 2 ** 20;

/** Whether a value has what a target written in JavaScript must have. */
export function isCustomTarget(value: unknown): value is CustomTarget {
  const target = value as Partial<CustomTarget> | null;
  return (
    typeof target === 'object' &&
    target !== null &&
    [target.write, target.flush, target.close].every((method) => typeof method === 'function') &&
    [target.checksums, target.manifest, target.read].every(
      (method) => method === undefined || typeof method === 'function',
    )
  );
}

/**
 * Makes a target of an object with `write`, `flush` and `close`. `startBackup`
 * takes such an object as it is; this is for its options.
 *
 * @throws TypeError if the object lacks a method; `prepare()`: SnapbakError
 *   ERR_SNAPBAK_TARGET or ERR_SNAPBAK_TARGET_REFUSED if the checksums cannot
 *   be gathered in the temporary directory
 * @example
 * customTarget({
 *   write: (offset, data) => upload(offset, data),
 *   flush() {},
 *   close: () => endUpload(),
 * });
 */
export function customTarget(
  target: CustomTarget,
  options: CustomTargetOptions = {},
  parts: { host?: Host } = {},
): BackupTarget {
  if (!isCustomTarget(target)) {
    throw new TypeError(`target must have the methods write, flush and close, got ${show(target)}`);
  }
  expectOptions('options', options, ['temporaryDirectory']);
  const { temporaryDirectory = tmpdir() } = options;
  expectType('options.temporaryDirectory', temporaryDirectory, 'string');
  return {
    description: 'a target written in JavaScript',
    async prepare(context) {
      return new PreparedCustomTarget(
        target,
        await gather(temporaryDirectory, context, parts.host ?? thisHost),
      );
    },
  };
}

/** A file without a name, for the checksums. */
async function gather(
  directory: string,
  { size, blockSize, origin }: TargetContext,
  host: Host,
): Promise<FileHandle> {
  const dependence = await fileDependence(directory, origin, host);
  if (dependence !== undefined) {
    const message = `target refused: the directory for temporary files, ${directory}, ${dependence}; set TMPDIR`;
    throw new SnapbakError('ERR_SNAPBAK_TARGET_REFUSED', message, { path: directory });
  }
  const path = join(directory, `snapbak-${randomBytes(8).toString('hex')}`);
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  let file: FileHandle | undefined;
  try {
    file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    await unlink(path);
    await file.truncate(checksumsSize(size, blockSize));
    return file;
  } catch (cause) {
    await file?.close();
    throw systemError('ERR_SNAPBAK_TARGET', `cannot make a temporary file in ${directory}`, cause, directory);
  }
}

class PreparedCustomTarget implements PreparedTarget {
  readonly native: PreparedTarget['native'];
  readonly image = { kind: 'custom' } as const;
  #committed = false;
  #closing: Promise<void> | undefined;

  constructor(
    private readonly target: CustomTarget,
    private readonly file: FileHandle,
  ) {
    this.native = {
      write: (offset, data) => target.write(offset, data),
      flush: () => target.flush(),
      ...(target.read === undefined ? {} : { read: (offset, length) => target.read!(offset, length) }),
    };
  }

  get checksumsFd(): number {
    return this.file.fd;
  }

  async commit(draft: ManifestDraft): Promise<Manifest> {
    if (draft.state === 'broken') throw new RangeError('a backup that is committed must not be broken');
    try {
      if (this.target.checksums !== undefined) await this.#sendChecksums();
      const manifest = await this.#complete(draft);
      await this.target.manifest?.(manifest);
      this.#committed = true;
      return manifest;
    } catch (cause) {
      throw systemError('ERR_SNAPBAK_TARGET', 'the target did not complete the backup', cause);
    }
  }

  async fail(draft: ManifestDraft): Promise<void> {
    if (this.#committed) return;
    try {
      await this.target.manifest?.(await this.#complete({ ...draft, state: 'broken' }));
    } catch {
      // the session ends with the error that broke it; the target has no complete manifest either way
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.target.close();
    } catch (cause) {
      throw systemError('ERR_SNAPBAK_TARGET', 'the target failed to close', cause);
    } finally {
      await this.file.close();
    }
  }

  async #complete(draft: ManifestDraft): Promise<Manifest> {
    const sha256 = await sha256Of(this.file);
    return completeDraft(draft, this.image, { name: CHECKSUMS_NAME, algorithm: 'crc32c', sha256 });
  }

  async #sendChecksums(): Promise<void> {
    for (let position = 0; ; ) {
      // a buffer of its own for each piece: the target may keep it
      const { bytesRead, buffer } = await this.file.read(Buffer.allocUnsafe(PIECE), 0, PIECE, position);
      if (bytesRead === 0) return;
      await this.target.checksums?.(position, buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  }
}
