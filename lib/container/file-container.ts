/**
 * A container with a file behind its slots: captured blocks spill there when
 * memory runs short.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { freemem } from 'node:os';
import { dirname, resolve } from 'node:path';
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import { assertBytes, formatSize } from '../extent.js';
import { type Host, thisHost } from '../host.js';
import { fileDependence, inMemory, isOrigin } from '../placement.js';
import { removeName } from '../remove-name.js';
import { systemCode, systemError } from '../system-error.js';
import {
  type ContainerContext,
  DEFAULT_MEMORY,
  MIN_TIER2_BLOCKS,
  type OpenContainer,
  type ResizableContainer,
  refused,
  slotsFor,
} from './container.js';
import { isOnOwnFileSystem, pinnedFile } from './pinned-file.js';
import { notResized, ResizableTier, ResizeUsers } from './resizable-tier.js';

/** How a file container is made. */
export interface FileContainerOptions {
  /** Bytes of the slots before it. Default: 64 MiB */
  memory?: number;
}

/** What tests put in place of the system. */
export interface ContainerParts {
  native?: () => NativeBinding;
  host?: Host;
  free?: () => number;
}

/**
 * Captured blocks wait in memory, and then in a file. The file is made when
 * the backup starts, with all of its space allocated, and its name is removed
 * at once: however the process ends, the space is free again. It can be resized
 * while the backup runs.
 *
 * With the kernel driver the file may also lie on the origin's own file system,
 * if that is ext2, ext3, ext4 or xfs. It is then pinned for as long as the
 * backup runs (immutable, `lsattr` shows an `i`), written past the driver, not
 * to be resized, and not in the backup; it is removed at the end. A killed process leaves it
 * behind, and the next backup with the same path removes it; by hand it goes by
 * `chattr -i` and `rm`.
 *
 * @param path must not exist, in a directory on a disk other than the origin,
 *   or on the origin's own file system
 * @param size bytes, at least 16 blocks; whole blocks of it are used, and no more than the origin has
 * @throws TypeError or RangeError for arguments of the wrong kind; `open()`:
 *   SnapbakError ERR_SNAPBAK_CONTAINER if the path exists, cannot be written,
 *   lies in memory (tmpfs) or could depend on the origin, if its file system
 *   may move the origin's blocks under it, or if there is not enough space
 * @example
 * fileContainer('/var/tmp/snapbak.container', 10 * 2 ** 30, { memory: 256 * 2 ** 20 })
 */
export function fileContainer(
  path: string,
  size: number,
  options: FileContainerOptions = {},
  parts: ContainerParts = {},
): ResizableContainer {
  expectType('path', path, 'string');
  if (path === '') throw new RangeError('path must not be empty');
  assertBytes('size', size, 1);
  expectOptions('options', options, ['memory']);
  const memory = options.memory ?? DEFAULT_MEMORY;
  assertBytes('options.memory', memory, 1);
  const place = resolve(path);
  const second = `${formatSize(size)} of file ${place}`;
  const users = new ResizeUsers(place);
  return {
    description: `${formatSize(memory)} of memory, then ${second}`,
    second,
    resize: (bytes) => users.resize(bytes),
    async open(context) {
      const slots = slotsFor(memory, context, (parts.free ?? freemem)());
      const capacity = capacityOf(size, context, (least) =>
        refused(`${place} of ${formatSize(size)} is too small, the least is 16 blocks (${least})`, place),
      );
      const { host = thisHost } = parts;
      const native = (parts.native ?? binding)();
      const own = await checkPlace(place, context, native, host);
      return create(place, capacity, (file) =>
        own
          ? pinnedFile(place, file, slots, capacity, context, native, host, users)
          : namelessFile(place, file, slots, capacity, context, native, users),
      );
    },
  };
}

/**
 * Bytes that a file of `size` is given: whole blocks, and no more than can ever
 * be captured, for what is allocated is also written.
 */
function capacityOf(
  size: number,
  { blockSize, origin }: ContainerContext,
  tooSmall: (least: string) => Error,
): number {
  const blocks = Math.floor(size / blockSize);
  if (blocks < MIN_TIER2_BLOCKS) throw tooSmall(formatSize(MIN_TIER2_BLOCKS * blockSize));
  return Math.min(blocks, Math.max(1, Math.ceil(origin.size / blockSize))) * blockSize;
}

/** Whether the file will lie on the origin's own file system; throws if it cannot be made there. */
async function checkPlace(
  path: string,
  { origin, neighbours = [] }: ContainerContext,
  native: NativeBinding,
  host: Host,
): Promise<boolean> {
  for (const neighbour of neighbours) {
    const of = (await isOrigin(path, neighbour, host))
      ? 'is its image'
      : await fileDependence(dirname(path), neighbour, host);
    if (of !== undefined) {
      const why = `${path} could wait for writes to another origin of the backup, ${neighbour.id}: it ${of}`;
      throw refused(why, path);
    }
  }
  if (await isOrigin(path, origin, host)) throw refused(`${path} is the origin's image`, path);
  const directory = dirname(path);
  if ((await host.identify(directory)) === undefined) {
    throw refused(`the directory ${directory} does not exist`, path);
  }
  if (await inMemory(directory, host)) {
    throw refused(`${path} is on a file system in memory; use a memory container of that size instead`, path);
  }
  const own = await isOnOwnFileSystem(path, await host.mountOf(directory), origin, host);
  const dependence = own ? undefined : await fileDependence(directory, origin, host);
  if (dependence !== undefined) {
    throw refused(`${path} could wait for the writes that it is there to release: it ${dependence}`, path);
  }
  if ((await host.identify(path)) !== undefined) removeLeft(path, native);
  return own;
}

/** What is in the way may be a pinned file of a process that was killed. */
function removeLeft(path: string, native: NativeBinding): void {
  try {
    native.removeLeftPinned(path);
  } catch (cause) {
    switch (systemCode(cause)) {
      case 'EEXIST':
        throw refused(`${path} exists already; name a file that does not`, path);
      case 'EBUSY':
        throw refused(`${path} is the container of a backup that runs`, path);
      default:
        throw systemError(
          'ERR_SNAPBAK_CONTAINER',
          `container refused: cannot remove ${path}, which a killed backup left`,
          cause,
          path,
        );
    }
  }
}

/** Makes a private file and a container of it; if that fails, there is none again. */
async function create(
  path: string,
  capacity: number,
  use: (file: FileHandle) => Promise<OpenContainer>,
): Promise<OpenContainer> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  let file: FileHandle;
  try {
    file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_CONTAINER', `container refused: cannot make ${path}`, cause, path);
  }
  try {
    await checkSpace(path, capacity, (reason) => refused(reason, path));
    return await use(file);
  } catch (cause) {
    await removeName(path, file).catch(() => {}); // the error before is the one to tell
    await file.close();
    throw systemError(
      'ERR_SNAPBAK_CONTAINER',
      `container refused: cannot allocate ${formatSize(capacity)} for ${path}`,
      cause,
      path,
    );
  }
}

async function namelessFile(
  path: string,
  file: FileHandle,
  slots: number,
  capacity: number,
  context: ContainerContext,
  native: NativeBinding,
  users: ResizeUsers,
): Promise<OpenContainer> {
  // nameless from here on: nothing can be left behind, whatever kills us
  await unlink(path);
  await native.preallocate(file.fd, capacity);
  const direct = await reopenDirect(file);
  const space = {
    path,
    capacity,
    async extend(from: number, to: number) {
      await checkSpace(path, to - from, (reason) => notResized(path, reason));
      await native.preallocate(file.fd, to - from, from);
    },
    cut: (to: number) => file.truncate(to),
  };
  let tier: ResizableTier | undefined;
  let leave = () => {};
  let closing: Promise<void> | undefined;
  return {
    slots,
    tiers: [
      {
        description: `file ${path}`,
        fd: (direct ?? file).fd,
        direct: direct !== undefined,
        capacity,
        begin(move) {
          const begun = new ResizableTier(space, move);
          tier = begun;
          leave = users.add(async (bytes) => {
            const tooSmall = (least: string) => notResized(path, `the least is 16 blocks (${least})`);
            await begun.resize(capacityOf(bytes, context, tooSmall));
          });
        },
      },
    ],
    close() {
      closing ??= (async () => {
        leave();
        await tier?.close();
        await direct?.close();
        await file.close();
      })();
      return closing;
    },
  };
}

async function checkSpace(path: string, capacity: number, error: (reason: string) => Error): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path));
  const free = bavail * bsize;
  if (free < capacity) {
    throw error(`${path} needs ${formatSize(capacity)}, its file system has ${formatSize(free)} free`);
  }
}

/** The same file past the page cache, so that spilled blocks do not fill it; undefined where that cannot be. */
async function reopenDirect(file: FileHandle): Promise<FileHandle | undefined> {
  try {
    return await open(`/proc/self/fd/${file.fd}`, constants.O_RDWR | constants.O_DIRECT);
  } catch (error) {
    if (systemCode(error) === 'EINVAL' || systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
