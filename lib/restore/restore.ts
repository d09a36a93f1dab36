/**
 * Brings a backup back: the listed blocks of the image go to a file or a
 * device, each checked on its way.
 */
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import type { Host } from '../host.js';
import { checkChecksums, openBackup } from './backup-files.js';
import { openDestination } from './destination.js';
import { type ReplayResult, replay, throwIfAborted } from './replay.js';
import { checkCommon, throwIfStopped, type VerifyOptions } from './verify.js';

/** What is restored where, and how. */
export interface RestoreOptions extends VerifyOptions {
  /** Which disk; it must be named if the backup is of several origins. */
  disk?: string | undefined;
  /**
   * Path of a file that is new or empty, or of a block device at least as large
   * as the origin was. No symbolic link, unless it is one in `/dev` to a device,
   * and nothing that the backup itself consists of.
   */
  to: string;
  /** Compare each block with its checksum before it is written. Default: true */
  verify?: boolean;
  /**
   * Overwrite a file that holds something (it is emptied first), or a device
   * with a file system, LVM or RAID on it. Default: false
   */
  force?: boolean;
}

/**
 * Restores a backup. A new file is made with mode 0600 and is sparse where the
 * image is; a device keeps what the block list does not name. It is durable
 * when the promise resolves. If it fails or is stopped, a file that it made is
 * removed; a file or device that was there holds a part of the backup then.
 *
 * @returns the bytes restored, the invalid blocks that were skipped, and how long it took
 * @throws TypeError for arguments of the wrong kind; RangeError that names the disks, if there are several
 *   and none or another is named
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST; ERR_SNAPBAK_INCOMPLETE if the
 *   backup broke (nothing makes it good); ERR_SNAPBAK_CORRUPT if its checksum
 *   file or a block is damaged (with `extent`, the first one);
 *   ERR_SNAPBAK_RESTORE if `to` is refused (exists, too small, in use, …) or
 *   cannot be written; ERR_SNAPBAK_IO; ERR_SNAPBAK_ABORTED
 * @example
 * await restore({ backup: '/backup/monday', to: '/dev/vg0/new', signal: AbortSignal.timeout(3_600_000) });
 */
export async function restore(
  options: RestoreOptions,
  parts: { native?: () => NativeBinding; host?: Host } = {},
): Promise<ReplayResult> {
  expectOptions('options', options, [
    'backup',
    'disk',
    'imageDevice',
    'to',
    'verify',
    'force',
    'onProgress',
    'signal',
  ]);
  checkCommon(options);
  const { backup, disk, imageDevice, to, verify = true, force = false, signal, onProgress } = options;
  expectType('options.to', to, 'string');
  if (to === '') throw new RangeError('options.to must not be empty');
  expectType('options.verify', verify, 'boolean');
  expectType('options.force', force, 'boolean');
  throwIfAborted(signal, 'restore');
  const native = (parts.native ?? binding)();
  const files = await openBackup(backup, native, imageDevice, disk);
  try {
    // before anything is overwritten
    if (verify) await checkChecksums(backup, files, signal);
    throwIfAborted(signal, 'restore');
    const destination = await openDestination(to, {
      size: files.manifest.size,
      force,
      not: files.own,
      native,
      host: parts.host,
    });
    try {
      const target = { fd: destination.fd, fresh: destination.fresh };
      const result = await replay(
        native,
        files,
        { target, check: verify },
        { signal, onProgress, doing: 'restore' },
      );
      await destination.commit();
      return result;
    } catch (error) {
      await destination.discard();
      throw error;
    } finally {
      await destination.close();
    }
  } catch (error) {
    throwIfStopped(error, signal, 'restore');
    throw error;
  } finally {
    await files.close();
  }
}
