/**
 * A container file on the origin's own file system (design, invariant 6). No
 * write to it may go through the driver that it serves, so it is written in
 * full, pinned, and then written by its extents on the lower device; its blocks
 * are not in the backup.
 *
 * It keeps its name while it is used, and pinned (immutable) means that nobody
 * can remove, cut or move it. An unlinked file would leave less behind after a
 * crash, but it is an orphan in the file system at the start instant, and no
 * checker calls the restored image clean.
 *
 * What a killed process leaves behind is a pinned file, and a later backup with
 * the same path removes it. Its blocks stay allocated until then, and a write
 * of ours that was on its way ends before the process does (each is one
 * synchronous pwrite of a thread), so none can land in another file's block.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { NativeBinding, NativeOriginInfo } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import { type Extent, flatten, formatSize } from '../extent.js';
import { deviceNumber, type Host, type Mount } from '../host.js';
import { devicesOf } from '../placement.js';
import { removeName } from '../remove-name.js';
import { type ContainerContext, MIN_TIER2_BLOCKS, type OpenContainer, refused } from './container.js';
import { notResized, type ResizeUsers } from './resizable-tier.js';

/** File systems that leave a file's bytes where they are. */
const STAY_PUT = new Set(['ext2', 'ext3', 'ext4', 'xfs']);

/**
 * Whether a file on this mount lies on the origin's own file system, where it
 * has to be a pinned one.
 *
 * @throws SnapbakError ERR_SNAPBAK_CONTAINER where it cannot be
 */
export async function isOnOwnFileSystem(
  path: string,
  mount: Mount | undefined,
  origin: NativeOriginInfo,
  host: Host,
): Promise<boolean> {
  if (mount === undefined || origin.driver !== 'kernel') return false;
  const number = deviceNumber(origin.dev);
  if (!(await devicesOf(mount, host)).includes(number)) return false;
  if (!STAY_PUT.has(mount.fsType)) {
    const kinds = [...STAY_PUT].join(', ');
    throw refused(
      `${path} is on the origin's own file system, and ${mount.fsType} may move its data while it is used ` +
        `(${kinds} do not); use a file on another disk, a device, or memory`,
      path,
    );
  }
  if (mount.options.includes('data=journal')) {
    throw refused(
      `${path} is on the origin's own file system, whose journal holds data, too (data=journal), and puts it ` +
        'in its place whenever it wants; use a file on another disk, a device, or memory',
      path,
    );
  }
  return mount.device === number;
}

/**
 * The parts of a file's extents that are whole blocks of the origin, ascending.
 * Only they are used: a block that is only partly the container's stays in the
 * block list, so nothing may write to it past the driver.
 */
export function wholeBlocks(extents: Float64Array, blockSize: number, originSize: number): Extent[] {
  const list: Extent[] = [];
  for (let i = 0; i < extents.length; i += 2) list.push({ offset: extents[i]!, length: extents[i + 1]! });
  const whole: Extent[] = [];
  for (const { offset, length } of BlockList.extents(list)) {
    const begin = Math.ceil(offset / blockSize) * blockSize;
    const end = Math.floor(Math.min(offset + length, originSize) / blockSize) * blockSize;
    if (begin < end) whole.push({ offset: begin, length: end - begin });
  }
  return whole;
}

/**
 * Makes a pinned container of a new file that only this process knows.
 *
 * @param file empty, open for reading and writing; closed with the container
 * @param capacity bytes, whole blocks
 */
export async function pinnedFile(
  path: string,
  file: FileHandle,
  slots: number,
  capacity: number,
  { origin, blockSize }: ContainerContext,
  native: NativeBinding,
  host: Host,
  users: ResizeUsers,
): Promise<OpenContainer> {
  if ((await file.stat()).dev !== origin.dev) {
    throw refused(`${path} became a file of another file system`, path);
  }
  const lower = await openLower(path, origin, host);
  try {
    // a block more: the first and the last one of an extent are hardly ever whole
    const { extents, unsuited } = await native.pinFile(file.fd, capacity + blockSize, {
      fd: lower.fd,
      sectorSize: origin.sectorSize,
      offset: origin.lowerOffset,
      size: origin.size,
    });
    if (unsuited !== undefined) {
      throw refused(
        `${path} is on the origin's own file system, where it ${unsuited}; ` +
          'use a file on another disk, a device, or memory',
        path,
      );
    }
    const excluded = wholeBlocks(extents, blockSize, origin.size);
    const usable = excluded.reduce((sum, { length }) => sum + length, 0);
    if (usable < MIN_TIER2_BLOCKS * blockSize) {
      throw refused(
        `${path} lies in ${extents.length / 2} pieces on the origin, and only ${formatSize(usable)} of it are ` +
          `whole blocks of ${formatSize(blockSize)}; take a larger file, a smaller blockSize, or another place`,
        path,
      );
    }
    const areas = excluded.map(({ offset, length }) => ({ offset: origin.lowerOffset + offset, length }));
    let leave = () => {};
    let closing: Promise<void> | undefined;
    return {
      slots,
      tiers: [
        {
          description: `file ${path}`,
          fd: lower.fd,
          direct: true,
          capacity: usable,
          areas: flatten(areas),
          begin() {
            leave = users.add(async () => {
              throw notResized(
                path,
                "it lies on the origin's own file system, where its blocks were fixed, and left out of the backup, " +
                  'before the point in time; put a file that is to be resized on another disk',
              );
            });
          },
        },
      ],
      excluded,
      close() {
        closing ??= (async () => {
          leave();
          await lower.close();
          try {
            native.unpinFile(file.fd);
            await removeName(path, file);
          } finally {
            await file.close();
          }
        })();
        return closing;
      },
    };
  } catch (error) {
    await lower.close();
    try {
      native.unpinFile(file.fd); // does nothing to a file that is not pinned yet
    } catch {
      // the error before is the one to tell
    }
    throw error;
  }
}

/** The device beneath, for reading and writing past the origin. */
async function openLower(path: string, origin: NativeOriginInfo, host: Host): Promise<FileHandle> {
  const number = deviceNumber(origin.lowerDev);
  const name = (await host.blockDevice(number))?.name;
  if (name === undefined) throw refused(`${path}: the lower device of the origin, ${number}, is gone`, path);
  // the kernel writes a slash in a name as an exclamation mark
  const file = await open(`/dev/${name.replaceAll('!', '/')}`, constants.O_RDWR | constants.O_DIRECT);
  if ((await file.stat()).rdev === origin.lowerDev) return file;
  await file.close();
  throw refused(`${path}: /dev/${name} is not the lower device of the origin, ${number}`, path);
}
