/**
 * A container with a block device (a partition, an external disk) behind its
 * slots: captured blocks spill there when memory runs short.
 */
import { freemem } from 'node:os';
import { resolve } from 'node:path';
import { expectOptions, expectType } from '../arguments.js';
import { binding } from '../binding.js';
import { openDevice } from '../device.js';
import { assertBytes, formatSize } from '../extent.js';
import { type Container, DEFAULT_MEMORY, MIN_TIER2_BLOCKS, refused, slotsFor } from './container.js';
import type { ContainerParts } from './file-container.js';

/** How a device container is opened. */
export interface DeviceContainerOptions {
  /** Bytes of the slots before it. Default: 64 MiB */
  memory?: number;
  /** Overwrite a file system, LVM or RAID that the device holds. Default: false */
  force?: boolean;
}

/**
 * Captured blocks wait in memory, and then on a block device, all of which is
 * overwritten. The device stays claimed while the backup runs.
 *
 * @param path of the block device
 * @throws TypeError or RangeError for arguments of the wrong kind; `open()`:
 *   SnapbakError ERR_SNAPBAK_CONTAINER if it is no block device, below 16
 *   blocks, in use, holds a known signature (without `force`), is the origin,
 *   or could depend on it
 * @example
 * deviceContainer('/dev/disk/by-id/usb-scratch-part1', { memory: 256 * 2 ** 20 })
 */
export function deviceContainer(
  path: string,
  options: DeviceContainerOptions = {},
  parts: ContainerParts = {},
): Container {
  expectType('path', path, 'string');
  if (path === '') throw new RangeError('path must not be empty');
  expectOptions('options', options, ['memory', 'force']);
  const { memory = DEFAULT_MEMORY, force = false } = options;
  assertBytes('options.memory', memory, 1);
  expectType('options.force', force, 'boolean');
  const place = resolve(path);
  return {
    description: `${formatSize(memory)} of memory, then device ${place}`,
    async open(context) {
      const slots = slotsFor(memory, context, (parts.free ?? freemem)());
      const { file, size } = await openDevice({
        path: place,
        minimum: MIN_TIER2_BLOCKS * context.blockSize,
        force,
        direct: true,
        origin: context.origin,
        refuse: (reason) => refused(`${place} ${reason}`, place),
        native: (parts.native ?? binding)(),
        host: parts.host,
      });
      let closing: Promise<void> | undefined;
      return {
        slots,
        tier2: { fd: file.fd, direct: true, capacity: size - (size % context.blockSize) },
        close() {
          closing ??= file.close();
          return closing;
        },
      };
    },
  };
}
