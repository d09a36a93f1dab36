/**
 * Where a used-block list is read from: a device that does not change while it
 * is read. Here an image file or a block device that nobody uses; in
 * `view-source.ts` a device as of a start instant.
 */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { binding, type NativeRangeProbe, type NativeSource } from '../../binding.js';
import { systemCode, systemError } from '../../system-error.js';
import { type Watch, watchDevice } from './device-watch.js';

export interface MetadataSource extends AsyncDisposable {
  /** How it is called in messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** The same for the addon. */
  readonly native: NativeSource;
  /**
   * A file or device with the same bytes, for the tools of file systems.
   *
   * @throws Error that says what there is none for
   */
  path(): Promise<string>;
  /** What libblkid finds in a part of it. */
  probe(offset: number, length: number): Promise<NativeRangeProbe>;
  /** All of those bytes. */
  read(offset: number, length: number): Promise<Buffer>;
  /** Why what is read may be of no one instant, in words that continue "it …". Asked when all is read. */
  unsteady(): Promise<string | undefined>;
}

/**
 * An image or a block device, read only.
 *
 * @throws SnapbakError ERR_SNAPBAK_BLOCK_LIST if it cannot be opened, or is something else
 */
export async function openFileSource(path: string, sysBlock = '/sys/block'): Promise<MetadataSource> {
  let file: FileHandle;
  try {
    // not to be kept waiting by a pipe
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_BLOCK_LIST', `cannot open ${path}`, cause, path);
  }
  try {
    const before = await file.stat({ bigint: true });
    let changed: Watch;
    if (before.isBlockDevice()) {
      const exclusive = await openExclusive(path);
      if (exclusive === undefined) changed = async () => 'is in use (mounted?)';
      else {
        await file.close();
        file = exclusive;
        changed = await watchDevice(file);
      }
    } else if (before.isFile()) {
      changed = await watchImage(file, before, sysBlock);
    } else {
      throw new Error('it is neither a file nor a block device');
    }
    return {
      name: path,
      size: binding().deviceSize(file.fd),
      native: file.fd,
      path: async () => path,
      probe: (offset, length) => binding().probeRange(file.fd, offset, length),
      async read(offset, length) {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
        if (bytesRead !== length) throw new Error(`it ends before ${offset + length}`);
        return buffer;
      },
      async unsteady() {
        // the tools of file systems open it by its name
        const named = await stat(path, { bigint: true }).catch(() => undefined);
        const same = isSame(await file.stat({ bigint: true }), before) && isSame(named, before);
        return same ? await changed() : 'was replaced by another of its name while it was read';
      },
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (cause) {
    await file.close();
    throw systemError('ERR_SNAPBAK_BLOCK_LIST', `cannot use ${path}`, cause, path);
  }
}

function isSame(one: BigIntStats | undefined, other: BigIntStats): boolean {
  return one?.dev === other.dev && one.ino === other.ino && one.rdev === other.rdev;
}

/** Undefined if somebody has it: it is mounted. Nor can it be mounted while we have it. */
async function openExclusive(device: string): Promise<FileHandle | undefined> {
  try {
    return await open(device, constants.O_RDONLY | constants.O_EXCL);
  } catch (cause) {
    if (systemCode(cause) !== 'EBUSY') throw cause;
    return undefined;
  }
}

async function watchImage(file: FileHandle, before: BigIntStats, sysBlock: string): Promise<Watch> {
  const loop = await loopOver(before, sysBlock);
  if (loop !== undefined) return async () => `is shown by /dev/${loop}, which may be in use`;
  return async () => {
    const after = await file.stat({ bigint: true });
    const same = after.mtimeNs === before.mtimeNs && after.size === before.size;
    return same ? undefined : 'was written to while it was read';
  };
}

/** The loop device over a file, if there is one. */
async function loopOver(image: { dev: bigint; ino: bigint }, sysBlock: string): Promise<string | undefined> {
  const devices = await readdir(sysBlock).catch(() => []);
  for (const name of devices.filter((device) => device.startsWith('loop'))) {
    const backing = await readFile(join(sysBlock, name, 'loop/backing_file'), 'utf8').catch(() => undefined);
    if (backing === undefined) continue;
    const other = await open(backing.trimEnd(), constants.O_RDONLY | constants.O_NONBLOCK).catch(
      () => undefined,
    );
    if (other === undefined) continue;
    try {
      const { dev, ino } = await other.stat({ bigint: true });
      if (dev === image.dev && ino === image.ino) return name;
    } finally {
      await other.close();
    }
  }
  return undefined;
}
