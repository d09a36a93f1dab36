/**
 * A target whose image lies on a block device; checksums and manifest lie in a
 * directory beside it.
 */
import { resolve } from 'node:path';
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import { openDevice } from '../device.js';
import type { Host } from '../host.js';
import { BackupDirectory, refused } from './backup-directory.js';
import type { BackupTarget } from './target.js';

/** How a device target is opened. */
export interface DeviceTargetOptions {
  /** Where `checksums` and `manifest.json` go; as for {@link directoryTarget}. */
  directory: string;
  /** Overwrite a file system, LVM or RAID that the device holds. Default: false */
  force?: boolean;
}

/**
 * A backup on a block device, from its first byte on. Of the device only the
 * listed blocks are overwritten. It stays claimed while the backup runs.
 *
 * @param path of a block device, at least as large as the origin
 * @throws TypeError or RangeError for arguments of the wrong kind; `prepare()`:
 *   SnapbakError ERR_SNAPBAK_TARGET_REFUSED if it is no block device, too
 *   small, in use, holds a known signature (without `force`), is the origin or
 *   could depend on it, and whatever {@link directoryTarget} refuses
 * @example
 * deviceTarget('/dev/disk/by-id/usb-backup', { directory: '/backup/monday' })
 */
export function deviceTarget(
  path: string,
  options: DeviceTargetOptions,
  parts: { native?: () => NativeBinding; host?: Host } = {},
): BackupTarget {
  expectType('path', path, 'string');
  if (path === '') throw new RangeError('path must not be empty');
  expectOptions('options', options, ['directory', 'force']);
  expectType('options.directory', options.directory, 'string');
  if (options.directory === '') throw new RangeError('options.directory must not be empty');
  const { force = false } = options;
  expectType('options.force', force, 'boolean');
  const place = resolve(path);
  const beside = resolve(options.directory);
  const image = { kind: 'device', path: place, offset: 0 } as const;
  return {
    description: `device ${place}, with directory ${beside}`,
    async prepare(context) {
      const { file } = await openDevice({
        path: place,
        minimum: context.size,
        force,
        direct: false, // the copy threads write what is not aligned, too
        origin: context.origin,
        refuse: (reason) => refused(place, reason),
        native: (parts.native ?? binding)(),
        host: parts.host,
      });
      const directory = await BackupDirectory.create(beside, context, parts.host).catch(
        async (error: unknown) => {
          await file.close();
          throw error;
        },
      );
      let closing: Promise<void> | undefined;
      return {
        native: { fd: file.fd, fresh: false },
        checksumsFd: directory.checksumsFd,
        image,
        commit: (draft) => directory.commit(draft, image, file),
        fail: (draft) => directory.fail(draft, image),
        close() {
          closing ??= file.close().finally(() => directory.close());
          return closing;
        },
      };
    },
  };
}
