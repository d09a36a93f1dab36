/**
 * `blocks: 'used'`: the session is armed over all blocks, the file systems are
 * read as of the start instant while applications write, and what turns out to
 * be free leaves the list before the sweep begins. Nothing is frozen for it.
 * What was captured meanwhile stays in the list.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlockList } from '../blocks/block-list.js';
import { nbdfuse } from '../blocks/used/nbdfuse.js';
import { openFileSource } from '../blocks/used/source.js';
import { fullBlocks, type UsedBlocks, usedBlocksOf } from '../blocks/used/used-blocks.js';
import type { BlocksEvent } from '../events.js';
import type { Resources } from './resources.js';
import { BackupView, openNativeView } from './view.js';

type Session = Pick<Resources, 'session' | 'info' | 'list' | 'blockSize'>;

/**
 * @param frozen the file system on the origin was frozen at the start instant
 * @throws what `Backup.view()` throws. A view that cannot be shown as a file is
 *   no error: everything stays listed then.
 */
export async function dropFreeBlocks(
  { session, info, list, blockSize }: Session,
  spec: string,
  frozen: boolean,
): Promise<{ list: BlockList; event: BlocksEvent }> {
  const begin = performance.now();
  const { list: used, parts } = await compile({ session, info, list, blockSize }, spec, frozen);
  const free = list.subtract(used.alignTo(blockSize, info.size));
  const flat = session.unlist(free.flat());
  const taken = Array.from({ length: flat.length / 2 }, (_, i) => ({
    offset: flat[2 * i]!,
    length: flat[2 * i + 1]!,
  }));
  const left = list.subtract(BlockList.extents(taken));
  const seconds = (performance.now() - begin) / 1000;
  return { list: left, event: { event: 'blocks', listedBytes: left.bytes, parts, seconds } };
}

async function compile({ session, info }: Session, spec: string, frozen: boolean): Promise<UsedBlocks> {
  await using view = new BackupView({
    native: await openNativeView(session, spec),
    spec,
    size: info.size,
    blocks: () => BlockList.all(info.size),
  });
  // mode 0700: others must not reach the socket or the file
  const folder = await mkdtemp(join(tmpdir(), 'snapbak-instant-'));
  try {
    const { uri } = await view.export(join(folder, 'nbd'));
    await using shown = await nbdfuse(uri, folder);
    await using file = await openFileSource(shown.path);
    return await usedBlocksOf({ ...file, name: spec, size: info.size }, { frozen });
  } catch (error) {
    return fullBlocks(
      spec,
      info.size,
      `the start instant cannot be read as a file: ${(error as Error).message}`,
    );
  } finally {
    await view.close();
    await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}
