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
import {
  DEFAULT_MEMORY,
  MIN_TIER2_BLOCKS,
  type OpenContainer,
  type ResizableContainer,
  refused,
  slotsFor,
} from './container.js';
import type { ContainerParts } from './file-container.js';
import { notResized, ResizableTier, ResizeUsers } from './resizable-tier.js';

/** How a device container is opened. */
export interface DeviceContainerOptions {
  /** Bytes of the slots before it. Default: 64 MiB */
  memory?: number;
  /** Bytes of the device to use, from its beginning on. Default: all */
  size?: number;
  /** Overwrite a file system, LVM or RAID that the device holds. Default: false */
  force?: boolean;
}

/**
 * Captured blocks wait in memory, and then on a block device, all of which may
 * be overwritten. The device stays claimed while the backup runs. It can be
 * resized meanwhile, up to the size of the device.
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
): ResizableContainer {
  expectType('path', path, 'string');
  if (path === '') throw new RangeError('path must not be empty');
  expectOptions('options', options, ['memory', 'size', 'force']);
  const { memory = DEFAULT_MEMORY, size: wanted, force = false } = options;
  assertBytes('options.memory', memory, 1);
  if (wanted !== undefined) assertBytes('options.size', wanted, 1);
  expectType('options.force', force, 'boolean');
  const place = resolve(path);
  const second = wanted === undefined ? `device ${place}` : `${formatSize(wanted)} of device ${place}`;
  const users = new ResizeUsers(place);
  return {
    description: `${formatSize(memory)} of memory, then ${second}`,
    second,
    resize: (bytes) => users.resize(bytes),
    async open(context) {
      const slots = slotsFor(memory, context, (parts.free ?? freemem)());
      const { blockSize } = context;
      const minimum = MIN_TIER2_BLOCKS * blockSize;
      if (wanted !== undefined && wanted < minimum) {
        throw refused(
          `${formatSize(wanted)} of ${place} is too small, the least is ${formatSize(minimum)}`,
          place,
        );
      }
      const { file, size } = await openDevice({
        path: place,
        minimum,
        force,
        direct: true,
        origin: context.origin,
        neighbours: context.neighbours,
        refuse: (reason) => refused(`${place} ${reason}`, place),
        native: (parts.native ?? binding)(),
        host: parts.host,
      });
      if (wanted !== undefined && wanted > size) {
        await file.close();
        throw refused(`${place} has ${formatSize(size)}, less than ${formatSize(wanted)}`, place);
      }
      const used = wanted ?? size;
      const capacity = used - (used % blockSize);
      let tier: ResizableTier | undefined;
      let leave = () => {};
      let closing: Promise<void> | undefined;
      const open: OpenContainer = {
        slots,
        tiers: [
          {
            description: `device ${place}`,
            fd: file.fd,
            direct: true,
            capacity,
            begin(move) {
              const begun = new ResizableTier({ path: place, capacity }, move);
              tier = begun;
              leave = users.add(async (bytes) => {
                if (bytes > size) throw notResized(place, `it has ${formatSize(size)}`);
                if (bytes < minimum)
                  throw notResized(place, `the least is 16 blocks (${formatSize(minimum)})`);
                await begun.resize(bytes - (bytes % blockSize));
              });
            },
          },
        ],
        close() {
          closing ??= (async () => {
            leave();
            await tier?.close();
            await file.close();
          })();
          return closing;
        },
      };
      return open;
    },
  };
}
