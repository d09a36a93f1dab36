/** Used-block lists for users: of an image or a device that nobody uses, and of an origin as of now. */
import { show } from '../../extent.js';
import type { Origin } from '../../origin.js';
import { type UsedBlocks, usedBlocksOf } from './compile.js';
import { usedBlocksNow } from './origin-now.js';
import { openFileSource } from './source.js';

export type { UsedBlocks } from './compile.js';

/**
 * The used blocks of an image file, of a block device that is not in use, or of
 * an origin that a driver serves: what the file systems on it use, the partition
 * table and what else lies outside of partitions, and all of what is not ext2,
 * ext3, ext4, xfs, btrfs or swap.
 *
 * The list is that of the moment: right for a backup of what nobody writes to.
 * For an origin that is in use it has to come from the start instant, which
 * `startBackup` does by itself (`blocks: 'used'`, its default).
 *
 * An origin is read through a session of the moment, so no other may run. With the
 * kernel driver that freezes its file systems for some milliseconds.
 *
 * @param what a path, or an origin of `openOrigin` or `openEmbedded`
 * @throws SnapbakError ERR_SNAPBAK_BLOCK_LIST if a path cannot be opened or is neither
 *   file nor block device; of an origin `ERR_SNAPBAK_BUSY`, `_START_TIMEOUT`, `_DRIVER_GONE`
 * @example
 * const { list, parts } = await usedBlocks('disk.img');
 * for (const { what, bytes, full, reason } of parts) console.log(what, bytes, full ? reason : '');
 */
export async function usedBlocks(what: string | Origin): Promise<UsedBlocks> {
  if (typeof what !== 'string') {
    if (typeof (what as Partial<Origin> | null)?.createSession === 'function') return usedBlocksNow(what);
    throw new TypeError(`what must be a path or an origin, got ${show(what)}`);
  }
  await using source = await openFileSource(what);
  return await usedBlocksOf(source);
}
