/**
 * Proves that a backup is what it was when it was finished.
 */
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { show } from '../extent.js';
import { checkChecksums, openBackup } from './backup-files.js';
import { type ReplayProgress, type ReplayResult, replay, throwIfAborted } from './replay.js';

/** What is verified, and how. */
export interface VerifyOptions {
  /** Path of the backup's directory. */
  backup: string;
  /**
   * The block device with the image, of a backup that was made with
   * `deviceTarget`. It must be named here: what a manifest says could be any
   * device of this machine. Default: the image is a file of the backup
   */
  imageDevice?: string | undefined;
  /** Called a few times a second, and at the end. */
  onProgress?: ((progress: ReplayProgress) => void) | undefined;
  /** Stops it. */
  signal?: AbortSignal | undefined;
}

/**
 * Reads all of a backup and compares each block with its CRC32C; before that,
 * the checksums with the SHA-256 in the manifest, and the sizes.
 *
 * @returns the bytes checked, the invalid blocks that were skipped, and how long it took
 * @throws TypeError for arguments of the wrong kind
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST; ERR_SNAPBAK_INCOMPLETE if the
 *   backup broke; ERR_SNAPBAK_CORRUPT with `path` if the checksum file is
 *   damaged, with `extent` (the first damaged block) if the image is;
 *   ERR_SNAPBAK_IO if it cannot be read; ERR_SNAPBAK_ABORTED
 * @example
 * const { bytes, invalidBlocks } = await verify({ backup: '/backup/monday' });
 */
export async function verify(
  options: VerifyOptions,
  parts: { native?: () => NativeBinding } = {},
): Promise<ReplayResult> {
  expectOptions('options', options, ['backup', 'imageDevice', 'onProgress', 'signal']);
  checkCommon(options);
  const { backup, imageDevice, signal, onProgress } = options;
  throwIfAborted(signal, 'verify');
  const native = (parts.native ?? binding)();
  const files = await openBackup(backup, native, imageDevice);
  try {
    await checkChecksums(backup, files, signal);
    return await replay(native, files, { check: true }, { signal, onProgress, doing: 'verify' });
  } catch (error) {
    throwIfStopped(error, signal, 'verify');
    throw error;
  } finally {
    await files.close();
  }
}

/** @throws TypeError for what `restore` and `verify` both take */
export function checkCommon({ backup, imageDevice, signal, onProgress }: VerifyOptions): void {
  expectType('options.backup', backup, 'string');
  if (backup === '') throw new RangeError('options.backup must not be empty');
  if (imageDevice !== undefined) {
    expectType('options.imageDevice', imageDevice, 'string');
    if (imageDevice === '') throw new RangeError('options.imageDevice must not be empty');
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError(`options.signal must be an AbortSignal, got ${show(signal)}`);
  }
  if (onProgress !== undefined) expectType('options.onProgress', onProgress, 'function');
}

/** Throws ERR_SNAPBAK_ABORTED in place of the signal's reason, wherever that came up. */
export function throwIfStopped(error: unknown, signal: AbortSignal | undefined, doing: string): void {
  if (!SnapbakError.is(error) && signal?.aborted && error === signal.reason) throwIfAborted(signal, doing);
}
