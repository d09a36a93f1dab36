/** The used blocks of a session's origin as of its start instant, read through the point-in-time view. */
import type { NativeExportable } from '../../binding.js';
import { fullBlocks, type UsedBlocks, usedBlocksOf } from './compile.js';
import type { MetadataSource } from './source.js';
import type { TellOptions } from './verdict.js';
import { viewSource } from './view-source.js';

/** How it is done. */
export interface UsedOptions extends TellOptions {
  /** Ends it early: everything is listed then. */
  signal?: AbortSignal | undefined;
}

/**
 * All of the device where it cannot be read. Never throws.
 *
 * That the driver froze something is no matter: whether a file system was at rest
 * is read from the instant itself, for it may be a guest's, or mounted elsewhere.
 *
 * @param openView of a session that is armed
 */
export async function usedAtStart(
  openView: () => Promise<NativeExportable>,
  device: Pick<MetadataSource, 'name' | 'size'>,
  { signal, unasked = false }: UsedOptions = {},
): Promise<UsedBlocks> {
  const ends: (() => PromiseLike<void> | void)[] = [];
  try {
    const native = await openView();
    ends.push(() => native.close());
    // the tools get errors then, and come to their end
    const stop = () => void native.close().catch(() => {});
    signal?.addEventListener('abort', stop, { once: true });
    ends.push(() => signal?.removeEventListener('abort', stop));
    signal?.throwIfAborted();
    await using source = viewSource(native, device);
    return await usedBlocksOf(source, { unasked });
  } catch (error) {
    const reason = `the start instant cannot be read: ${(error as Error).message}`;
    return fullBlocks(device, reason, { unasked });
  } finally {
    for (const end of ends.reverse()) await (async () => end())().catch(() => {});
  }
}
