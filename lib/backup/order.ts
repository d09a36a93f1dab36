/**
 * `order`: what the sweep copies first. The driver says where writes went, the
 * scheduler's policy makes an order of it; this joins the two, and says so where
 * the driver cannot.
 */
import { FEATURE_HEAT, type NativeOriginInfo } from '../binding.js';
import type { BlockList } from '../blocks/block-list.js';
import { log } from '../diagnostics.js';
import { type Extent, formatSize } from '../extent.js';
import { type HotFirst, hotFirst } from '../scheduler/hot-first.js';
import type { Resources } from './resources.js';

/** `ascending`, or `hot-first`: what was written most lately comes first. */
export type SweepOrder = 'ascending' | 'hot-first';

/** Whether the driver is to give its heat: an older one would refuse to be asked. */
export function wantsHeat(order: SweepOrder, { features }: NativeOriginInfo): boolean {
  return order === 'hot-first' && (features & FEATURE_HEAT) !== 0;
}

/**
 * What of `list` is copied before the rest, as of the start; nothing for
 * `ascending`, and where the driver keeps no account of writes. Never throws
 * for what the driver says: an order is no reason to fail.
 */
export function copiedFirst(
  order: SweepOrder,
  { session, info, blockSize }: Pick<Resources, 'session' | 'info' | 'blockSize'>,
  list: BlockList,
  origin: string,
): Iterable<Extent> | undefined {
  if (order === 'ascending') return undefined;
  const heat = session.heat();
  if (heat.ticks.length === 0) {
    const message = `driver ${info.driverVersion} keeps no account of writes: blocks are copied ascending, not hot-first`;
    log({ level: 'warn', message, origin, event: 'order' });
    return undefined;
  }
  const { extents, bytes }: HotFirst = hotFirst(heat, list, blockSize, info.size);
  const message = `${formatSize(bytes)} of ${formatSize(info.size)} were written lately and are copied first`;
  log({ level: 'info', message, origin, event: 'order' });
  return extents;
}
