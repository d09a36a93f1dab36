/**
 * Partition tables, as libblkid reads them. What is not inside a partition is
 * kept: the table itself, its copy at the end (GPT), the boot loader before the
 * first partition, and the links between logical partitions (DOS), which lie
 * in the extended partition but in no logical one.
 */
import type { NativePartition, NativeRangeProbe } from '../../binding.js';
import type { Extent } from '../../extent.js';

/** Kept whatever the table says: boot loaders lie there. */
const HEAD = 2 ** 20;
/** What a DOS table says where there is a GPT. */
const PROTECTIVE = 0xee;

/** The partitions or volumes to look into, and the bytes to keep besides; or why they are not certain. */
export type Partitioning = { parts: Extent[]; used: Extent[]; note?: string } | { doubt: string };

export function partitioning({ table, partitions }: NativeRangeProbe, length: number): Partitioning {
  if (table !== 'gpt' && table !== 'dos')
    return { doubt: `its ${table} partition table is none that Snapbak knows` };
  if (table === 'dos' && partitions.some(({ type }) => type === PROTECTIVE)) {
    return { doubt: 'its DOS table points to a GPT that is not there, or of another sector size' };
  }
  const parts = partitions.filter((one) => !one.extended).sort((a, b) => a.offset - b.offset);
  let end = 0;
  const used: Extent[] = [{ offset: 0, length: Math.min(HEAD, length) }];
  for (const part of parts) {
    const wrong = misfit(part, end, length);
    if (wrong !== undefined) return { doubt: `its partition ${part.number} ${wrong}` };
    if (part.offset > end) used.push({ offset: end, length: part.offset - end });
    end = part.offset + part.length;
  }
  if (length > end) used.push({ offset: end, length: length - end });
  return { parts: parts.map(({ offset, length }) => ({ offset, length })), used };
}

function misfit({ offset, length }: NativePartition, end: number, size: number): string | undefined {
  if (offset === 0 || length === 0) return 'is empty, or holds the table itself';
  if (offset < end) return 'overlaps the one before it';
  return offset + length > size ? 'reaches beyond the end of the device' : undefined;
}
