/**
 * Whether a block device stands still while a list is read from it. To have it
 * exclusively keeps others from mounting it, and no more: who does not ask for that,
 * as a running virtual machine, writes all the same. So the kernel's count of
 * what was written is looked at, before and after.
 *
 * A disk and each of its partitions have page caches that know nothing of each
 * other, and an old one lives as long as somebody has the device open. So that of
 * the device is emptied first.
 */
import { type FileHandle, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { binding } from '../../binding.js';
import { deviceNumber } from '../../host.js';
import { systemCode } from '../../system-error.js';

/** Why what was read since is of no one instant, in words that continue "it …". */
export type Watch = () => Promise<string | undefined>;

/**
 * To be called before anything is read that counts.
 *
 * @param device held exclusively
 */
export async function watchDevice(device: FileHandle, sysDevBlock = '/sys/dev/block'): Promise<Watch> {
  const { rdev } = await device.stat({ bigint: true });
  const folder = join(sysDevBlock, deviceNumber(rdev));
  try {
    const { read } = await sectorsOf(folder);
    await binding().flushBuffers(device.fd);
    const before = await sectorsOf(folder);
    return async () => {
      try {
        // what others have only in the cache, where it was read, is counted when it is written
        await binding().flushBuffers(device.fd);
        const underWay = await writesUnderWay(folder);
        const after = await sectorsOf(folder);
        // what was read came from the device, for the cache was empty
        if (after.read === read)
          return 'is a device of which the kernel does not count what is written to it';
        const same = after.written === before.written && after.discarded === before.discarded;
        return same && underWay === 0 ? undefined : 'was written to while it was read';
      } catch (error) {
        return unwatched(error);
      }
    };
  } catch (error) {
    return async () => unwatched(error);
  }
}

function unwatched(error: unknown): string {
  return `may have been written to, which cannot be found out (${systemCode(error) ?? (error as Error).message})`;
}

/** Sectors, not requests: to flush a device may count as a request. See Documentation/block/stat.rst of Linux. */
async function sectorsOf(folder: string) {
  const fields = (await readFile(join(folder, 'stat'), 'utf8')).trim().split(/\s+/);
  return { read: fields[2], written: fields[6], discarded: fields[13] };
}

async function writesUnderWay(folder: string): Promise<number> {
  return Number((await readFile(join(folder, 'inflight'), 'utf8')).trim().split(/\s+/)[1]);
}
