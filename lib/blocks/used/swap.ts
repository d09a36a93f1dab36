/**
 * Swap space: its header, and nothing of what was swapped out, which means
 * nothing to a machine that starts anew. Format: union swap_header in
 * include/linux/swap.h of Linux.
 */
import type { Verdict } from './verdict.js';

/** The largest page of any architecture: the header is the first page, whatever it is there. */
const HEADER = 65536;
const SIGNATURE = 'SWAPSPACE2';

/** @param head the first 64 KiB, or less where there are no more */
export function usedOfSwap(head: Uint8Array, length: number): Verdict {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const pageSize = [4096, 8192, 16384, 32768, 65536].find(
    (size) => bytes.toString('latin1', size - SIGNATURE.length, size) === SIGNATURE,
  );
  if (pageSize === undefined) return { doubt: 'its header has another form than mkswap gives it' };
  const version = [bytes.readUInt32LE(1024), bytes.readUInt32BE(1024)];
  const lastPage = version[0] === 1 ? bytes.readUInt32LE(1028) : bytes.readUInt32BE(1028);
  const end = (lastPage + 1) * pageSize;
  if (!version.includes(1) || lastPage === 0 || end > length) return { doubt: 'its header is damaged' };
  const used = [{ offset: 0, length: Math.min(HEADER, length) }];
  if (end < length) used.push({ offset: end, length: length - end });
  return { used };
}
