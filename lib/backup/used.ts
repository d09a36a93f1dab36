/**
 * `blocks: 'used'`: the session is armed over all blocks, the file systems are
 * read as of the start instant while applications write, and what turns out to
 * be free leaves the list before the sweep begins. Nothing is frozen for it.
 * What was captured meanwhile stays in the list. Of several origins all are read
 * before any drops something: one may tell that nothing is free on the others.
 */
import { BlockList } from '../blocks/block-list.js';
import { type UsedOptions, usedAtStart } from '../blocks/used/at-start.js';
import { fullBlocks, hibernates, type UsedBlocks } from '../blocks/used/compile.js';
import type { BlocksEvent } from '../events.js';
import { isNativeError } from '../native-errors.js';
import type { Resources } from './resources.js';
import { openNativeView } from './view.js';

type Session = Pick<Resources, 'session' | 'info' | 'list' | 'blockSize'>;

/** As of the start instant. */
export interface FoundBlocks extends UsedBlocks {
  /** When the search began, as `performance.now()` gives it. */
  begin: number;
}

/** Never throws for what it finds: what cannot be read is used. */
export async function findUsedBlocks(
  { session, info }: Pick<Session, 'session' | 'info'>,
  spec: string,
  options: UsedOptions = {},
): Promise<FoundBlocks> {
  const begin = performance.now();
  const device = { name: spec, size: info.size };
  return { begin, ...(await usedAtStart(() => openNativeView(session, spec), device, options)) };
}

/**
 * What cannot leave the list because the session has ended stays listed. Whoever
 * ended the session says so.
 *
 * @param sleeper another origin, on which a machine hibernates: then all of this one is used
 */
export function dropFreeBlocks(
  { session, info, list, blockSize }: Session,
  spec: string,
  { begin, ...found }: FoundBlocks,
  sleeper?: string,
): { list: BlockList; event: BlocksEvent } {
  const { list: used, parts } =
    sleeper === undefined || found.hibernated
      ? found
      : fullBlocks({ name: spec, size: info.size }, hibernates(sleeper), {}, found.parts[0]?.what);
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
