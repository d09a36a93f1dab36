/**
 * `blocks: 'used'`: the session is armed over all blocks, the file systems are
 * read as of the start instant while applications write, and what turns out to
 * be free leaves the list before the sweep begins. Nothing is frozen for it.
 * What was captured meanwhile stays in the list.
 */
import { BlockList } from '../blocks/block-list.js';
import { type UsedOptions, usedAtStart } from '../blocks/used/at-start.js';
import type { BlocksEvent } from '../events.js';
import { isNativeError } from '../native-errors.js';
import type { Resources } from './resources.js';
import { openNativeView } from './view.js';

type Session = Pick<Resources, 'session' | 'info' | 'list' | 'blockSize'>;

/**
 * Never throws for what it finds: what cannot be read, or cannot leave the list
 * because the session has ended, stays listed. Whoever ended the session says so.
 */
export async function dropFreeBlocks(
  { session, info, list, blockSize }: Session,
  spec: string,
  options: UsedOptions = {},
): Promise<{ list: BlockList; event: BlocksEvent }> {
  const begin = performance.now();
  const { list: used, parts } = await usedAtStart(
    () => openNativeView(session, spec),
    { name: spec, size: info.size },
    options,
  );
  const left = list.subtract(unlisted(session, list.subtract(used.alignTo(blockSize, info.size))));
  const seconds = (performance.now() - begin) / 1000;
  return { list: left, event: { event: 'blocks', listedBytes: left.bytes, parts, seconds } };
}

/** What has left the list. */
function unlisted(session: Session['session'], free: BlockList): BlockList {
  if (free.runs === 0) return free;
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
