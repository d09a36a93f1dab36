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
import { systemCode, systemError } from '../system-error.js';
import {
  type Container,
  type ContainerContext,
  DEFAULT_MEMORY,
  MIN_TIER2_BLOCKS,
  type OpenContainer,
  refused,
  slotsFor,
} from './container.js';

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
 * at once: however the process ends, the space is free again.
 *
 * @param path must not exist, in a directory on a disk other than the origin
 * @param size bytes, at least 16 blocks; whole blocks of it are used, and no more than the origin has
 * @throws TypeError or RangeError for arguments of the wrong kind; `open()`:
 *   SnapbakError ERR_SNAPBAK_CONTAINER if the path exists, cannot be written,
 *   lies in memory (tmpfs) or could depend on the origin, or if there is not
 *   enough space
 * @example
 * fileContainer('/var/tmp/snapbak.container', 10 * 2 ** 30, { memory: 256 * 2 ** 20 })
 */
export function fileContainer(
  path: string,
  size: number,
  options: FileContainerOptions = {},
  parts: ContainerParts = {},
): Container {
  expectType('path', path, 'string');
  if (path === '') throw new RangeError('path must not be empty');
  assertBytes('size', size, 1);
  expectOptions('options', options, ['memory']);
  const memory = options.memory ?? DEFAULT_MEMORY;
  assertBytes('options.memory', memory, 1);
  const place = resolve(path);
  return {
    description: `${formatSize(memory)} of memory, then ${formatSize(size)} of file ${place}`,
    async open(context) {
      const slots = slotsFor(memory, context, (parts.free ?? freemem)());
      const { blockSize, origin } = context;
      const blocks = Math.floor(size / blockSize);
      if (blocks < MIN_TIER2_BLOCKS) {
        const least = formatSize(MIN_TIER2_BLOCKS * blockSize);
        throw refused(
          `${place} of ${formatSize(size)} is too small, the least is 16 blocks (${least})`,
          place,
        );
      }
      await checkPlace(place, context, parts.host ?? thisHost);
      // no more than can ever be captured: what is allocated is also written
      const capacity = Math.min(blocks, Math.max(1, Math.ceil(origin.size / blockSize))) * blockSize;
      return openFile(place, slots, capacity, (parts.native ?? binding)());
    },
  };
}

async function checkPlace(path: string, { origin }: ContainerContext, host: Host): Promise<void> {
  if (await isOrigin(path, origin, host)) throw refused(`${path} is the origin's image`, path);
  if ((await host.identify(path)) !== undefined) {
    throw refused(`${path} exists already; name a file that does not`, path);
  }
  const directory = dirname(path);
  if ((await host.identify(directory)) === undefined) {
    throw refused(`the directory ${directory} does not exist`, path);
  }
  if (await inMemory(directory, host)) {
    throw refused(`${path} is on a file system in memory; use a memory container of that size instead`, path);
  }
  const dependence = await fileDependence(directory, origin, host);
  if (dependence !== undefined) {
    throw refused(`${path} could wait for the writes that it is there to release: it ${dependence}`, path);
  }
}

async function openFile(
  path: string,
  slots: number,
  capacity: number,
  native: NativeBinding,
): Promise<OpenContainer> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  let file: FileHandle;
  try {
    file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_CONTAINER', `container refused: cannot make ${path}`, cause, path);
  }
  let direct: FileHandle | undefined;
  try {
    // nameless from here on: nothing can be left behind, whatever kills us
    await unlink(path);
    await checkSpace(path, capacity);
    await native.preallocate(file.fd, capacity);
    direct = await reopenDirect(file);
  } catch (cause) {
    await file.close();
    throw systemError(
      'ERR_SNAPBAK_CONTAINER',
      `container refused: cannot allocate ${formatSize(capacity)} for ${path}`,
      cause,
      path,
    );
  }
  const tier = direct ?? file;
  let closing: Promise<void> | undefined;
  return {
    slots,
    tier2: { fd: tier.fd, direct: direct !== undefined, capacity },
    close() {
      closing ??= (async () => {
        await direct?.close();
        await file.close();
      })();
      return closing;
    },
  };
}

async function checkSpace(path: string, capacity: number): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(path));
  const free = bavail * bsize;
  if (free < capacity) {
    throw refused(
      `${path} needs ${formatSize(capacity)}, its file system has ${formatSize(free)} free`,
      path,
    );
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
