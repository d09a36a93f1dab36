/**
 * A device as of a start instant, to read a used-block list from. The addon
 * reads it as it is; nbdkit and nbdfuse, which show it to the tools of file
 * systems as a file, are started when a file system is found that needs them.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding, type NativeExportable, type NativeRangeProbe } from '../../binding.js';
import { startExport } from '../../export/export.js';
import { nbdfuse } from './nbdfuse.js';
import type { MetadataSource } from './source.js';

/** @param native stays the caller's, who closes it afterwards */
export function viewSource(
  native: NativeExportable,
  { name, size }: Pick<MetadataSource, 'name' | 'size'>,
): MetadataSource {
  const ends: (() => PromiseLike<void>)[] = [];
  let shown: Promise<string> | undefined;
  const path = () => {
    shown ??= show(native, name, size, ends);
    return shown;
  };
  return {
    name,
    size,
    native,
    path,
    probe: (offset, length) => probe(native, path, offset, length),
    read: (offset, length) => native.read(offset, length),
    unsteady: async () => undefined,
    async [Symbol.asyncDispose]() {
      await shown?.catch(() => {});
      for (const end of ends.reverse()) await end().then(undefined, () => {});
    },
  };
}

async function show(
  native: NativeExportable,
  name: string,
  size: number,
  ends: (() => PromiseLike<void>)[],
): Promise<string> {
  try {
    // mode 0700: others must not reach the socket or the file
    const folder = await mkdtemp(join(tmpdir(), 'snapbak-instant-'));
    ends.push(() => rm(folder, { recursive: true, force: true }));
    const server = await startExport({
      device: native,
      size,
      // xfs_logprint wants to open a file for writing; a view refuses every write itself
      readOnly: false,
      socket: join(folder, 'nbd'),
      name: `the start instant of ${name}`,
    });
    ends.push(() => server.stop());
    const file = await nbdfuse(server.uri, folder);
    ends.push(() => file[Symbol.asyncDispose]());
    return file.path;
  } catch (cause) {
    throw new Error(`its tools cannot see the start instant: ${(cause as Error).message}`, { cause });
  }
}

/** Logical partitions are linked to each other, all over the device: only in a file libblkid sees them all. */
async function probe(
  native: NativeExportable,
  path: () => Promise<string>,
  offset: number,
  length: number,
): Promise<NativeRangeProbe> {
  const found = await binding().probeRange(native, offset, length);
  if (!found.partitions.some(({ extended }) => extended)) return found;
  const file = await open(await path(), 'r');
  try {
    return await binding().probeRange(file.fd, offset, length);
  } finally {
    await file.close();
  }
}
