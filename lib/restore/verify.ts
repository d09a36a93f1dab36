/**
 * Proves that a backup is what it was when it was finished.
 */
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { show } from '../extent.js';
import { type GroupManifest, readAnyManifest } from '../manifest.js';
import { checkChecksums, openBackup } from './backup-files.js';
import { type ReplayProgress, type ReplayResult, replay, throwIfAborted } from './replay.js';

/** What is verified, and how. */
export interface VerifyOptions {
  /** Path of the backup's directory. */
  backup: string;
  /** Which disk, of a backup of several origins. Default: all of them */
  disk?: string | undefined;
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
 * @returns the bytes checked, the invalid blocks that were skipped, and how long it took;
 *   of several disks also what of it is whose
 * @throws TypeError for arguments of the wrong kind; RangeError for a disk that is not there
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST; ERR_SNAPBAK_INCOMPLETE if the
 *   backup broke, and of several disks, when those that are good have been checked, if any or the whole did; ERR_SNAPBAK_CORRUPT with `path` if the checksum file is
 *   damaged, with `extent` (the first damaged block) if the image is;
 *   ERR_SNAPBAK_IO if it cannot be read; ERR_SNAPBAK_ABORTED
 * @example
 * const { bytes, invalidBlocks } = await verify({ backup: '/backup/monday' });
 */
export async function verify(
  options: VerifyOptions,
  parts: { native?: () => NativeBinding } = {},
): Promise<VerifyResult> {
  expectOptions('options', options, ['backup', 'disk', 'imageDevice', 'onProgress', 'signal']);
  checkCommon(options);
  throwIfAborted(options.signal, 'verify');
  const native = (parts.native ?? binding)();
  const manifest = await readAnyManifest(options.backup);
  if (options.disk === undefined && 'disks' in manifest) return await verifyDisks(manifest, options, native);
  return await verifyOne(options, native);
}

/** What `verify` resolves with. */
export interface VerifyResult extends ReplayResult {
  /** Of a backup of several origins: each, by its name. */
  disks?: ({ name: string } & ReplayResult)[];
}

async function verifyOne(options: VerifyOptions, native: NativeBinding): Promise<ReplayResult> {
  const { backup, imageDevice, disk, signal, onProgress } = options;
  const files = await openBackup(backup, native, imageDevice, disk);
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

/** One after the other; what broke is told when all that did not is known to be good. */
async function verifyDisks(
  manifest: GroupManifest,
  options: VerifyOptions,
  native: NativeBinding,
): Promise<VerifyResult> {
  const { disks } = manifest;
  const { backup, onProgress } = options;
  const good = disks.filter(({ state }) => state !== 'broken');
  const totalBytes = good.reduce((sum, disk) => sum + bytesOf(disk.blocks) - bytesOf(disk.invalidBlocks), 0);
  const done: ({ name: string } & ReplayResult)[] = [];
  const sum = (value: (one: ReplayResult) => number) => done.reduce((total, one) => total + value(one), 0);
  for (const { name } of good) {
    const before = sum(({ bytes }) => bytes);
    const result = await verifyOne(
      {
        ...options,
        disk: name,
        onProgress: (now) => onProgress?.({ ...now, doneBytes: before + now.doneBytes, totalBytes }),
      },
      native,
    );
    done.push({ name, ...result });
  }
  if (manifest.state === 'broken') throw groupIncomplete(manifest, backup);
  return {
    bytes: sum(({ bytes }) => bytes),
    badBlocks: 0,
    invalidBlocks: sum(({ invalidBlocks }) => invalidBlocks),
    invalidExtents: done.flatMap(({ invalidExtents }) => invalidExtents),
    seconds: sum(({ seconds }) => seconds),
    disks: done,
  };
}

/** A manifest is never better than its disks, but it may be worse. */
function groupIncomplete({ disks, error }: GroupManifest, backup: string): SnapbakError {
  const because = (why: GroupManifest['error']) => `(${why?.message ?? 'no reason is told'})`;
  const broken = disks.filter(({ state }) => state === 'broken');
  const names = disks.filter(({ state }) => state !== 'broken').map(({ name }) => name);
  const what =
    broken.length === 0
      ? `the backup in ${backup} was broken as a whole ${because(error)}`
      : `of the backup in ${backup}, these disks were broken: ` +
        broken.map((disk) => `${disk.name} ${because(disk.error)}`).join(', ');
  const rest = names.length === 0 ? 'there is no other' : `these are good: ${names.join(', ')}`;
  return new SnapbakError('ERR_SNAPBAK_INCOMPLETE', `${what}; ${rest}`, { path: backup });
}

function bytesOf(pairs: GroupManifest['disks'][number]['blocks']): number {
  return pairs.reduce((sum, [, length]) => sum + length, 0);
}

/** @throws TypeError for what `restore` and `verify` both take */
export function checkCommon({ backup, disk, imageDevice, signal, onProgress }: VerifyOptions): void {
  expectType('options.backup', backup, 'string');
  if (backup === '') throw new RangeError('options.backup must not be empty');
  if (disk !== undefined) expectType('options.disk', disk, 'string');
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
