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
import { isNativeError } from '../native-errors.js';
import type { Resources } from './resources.js';
import { BackupView, openNativeView } from './view.js';

type Session = Pick<Resources, 'session' | 'info' | 'list' | 'blockSize'>;

/**
 * Never throws for what it finds: what cannot be read, or cannot leave the list
 * because the session has ended, stays listed. Whoever ended the session says so.
 *
 * Nothing is taken for frozen: the kernel driver freezes what is mounted on the
 * origin, but a guest's file system on it, or one that is mounted read-only, is not.
 *
 * @param signal ends it early: everything stays listed then
 */
export async function dropFreeBlocks(
  { session, info, list, blockSize }: Session,
  spec: string,
  signal?: AbortSignal,
): Promise<{ list: BlockList; event: BlocksEvent }> {
  const begin = performance.now();
  const { list: used, parts } = await compile({ session, info, list, blockSize }, spec, signal);
  const left = list.subtract(unlisted(session, list.subtract(used.alignTo(blockSize, info.size))));
  const seconds = (performance.now() - begin) / 1000;
  return { list: left, event: { event: 'blocks', listedBytes: left.bytes, parts, seconds } };
}

/** What has left the list. */
function unlisted(session: Session['session'], free: BlockList): BlockList {
  let flat: Float64Array;
  try {
    flat = session.unlist(free.flat());
  } catch (error) {
    if (isNativeError(error)) return BlockList.extents([]); // the session has ended
    throw error;
  }
  return BlockList.extents(
    Array.from({ length: flat.length / 2 }, (_, i) => ({ offset: flat[2 * i]!, length: flat[2 * i + 1]! })),
  );
}

async function compile(
  { session, info }: Session,
  spec: string,
  signal: AbortSignal | undefined,
): Promise<UsedBlocks> {
  const ends: (() => PromiseLike<void> | void)[] = [];
  try {
    const view = new BackupView({
      native: await openNativeView(session, spec),
      spec,
      size: info.size,
      blocks: () => BlockList.all(info.size),
    });
    ends.push(() => view.close());
    // the tools get errors then, and come to their end
    const stop = () => void view.close();
    signal?.addEventListener('abort', stop, { once: true });
    ends.push(() => signal?.removeEventListener('abort', stop));
    signal?.throwIfAborted();
    // mode 0700: others must not reach the socket or the file
    const folder = await mkdtemp(join(tmpdir(), 'snapbak-instant-'));
    ends.push(() => rm(folder, { recursive: true, force: true }));
    const { uri } = await view.export(join(folder, 'nbd'));
    const shown = await nbdfuse(uri, folder);
    ends.push(() => shown[Symbol.asyncDispose]());
    await using file = await openFileSource(shown.path);
    return await usedBlocksOf({ ...file, name: spec, size: info.size }, { frozen: false });
  } catch (error) {
    return fullBlocks(
      spec,
      info.size,
      `the start instant cannot be read as a file: ${(error as Error).message}`,
    );
  } finally {
    for (const end of ends.reverse()) await (async () => end())().catch(() => {});
  }
}
