/**
 * A container of memory alone: the slots that the driver captures into.
 */
import { freemem } from 'node:os';
import { assertBytes, formatSize } from '../extent.js';
import { type Container, slotsFor } from './container.js';

/**
 * Captured blocks wait in memory only. When it is full, writers wait for the
 * target.
 *
 * @param size bytes; whole blocks of it become slots, at least one and no more
 *   than the origin has blocks
 * @param free bytes that may be taken now; default: what the system has available
 * @throws TypeError or RangeError if `size` is no number of bytes; `open()`:
 *   SnapbakError ERR_SNAPBAK_CONTAINER if it is less than a block, or too much
 * @example
 * await startBackup({ origin, target, container: memoryContainer(256 * 2 ** 20) });
 */
export function memoryContainer(size: number, free: () => number = freemem): Container {
  assertBytes('size', size, 1);
  return {
    description: `memory of ${formatSize(size)}`,
    async open(context) {
      return { slots: slotsFor(size, context, free()), async close() {} };
    },
  };
}
