/**
 * Containers: where captured blocks wait until the target has them. Tier 1 is
 * memory (the slots that the driver captures into), tier 2 a file, a partition
 * or an external device behind it.
 */
import type { NativeOriginInfo } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { formatSize } from '../extent.js';

/** What a container has to know about the backup that is about to begin. */
export interface ContainerContext {
  /** What OPEN answered; the container must not depend on this origin. */
  origin: NativeOriginInfo;
  /** Bytes of a block. */
  blockSize: number;
}

/** A container that is open, in the words of the addon. */
export interface OpenContainer {
  /** Slots of tier 1, one block each. */
  readonly slots: number;
  /** The second tier; `capacity` in bytes, whole blocks. */
  readonly tier2?: { fd: number; direct: boolean; capacity: number };
  /** Gives everything back. Idempotent. */
  close(): Promise<void>;
}

/** A place for captured blocks. */
export interface Container {
  /** For people, e.g. `memory of 64 MiB`. */
  readonly description: string;
  /** @throws SnapbakError ERR_SNAPBAK_CONTAINER with the reason; nothing is left behind */
  open(context: ContainerContext): Promise<OpenContainer>;
}

/** Tier 1 where only a second tier was asked for: 64 MiB. */
export const DEFAULT_MEMORY = 64 * 2 ** 20;

/** A second tier below this is refused. */
export const MIN_TIER2_BLOCKS = 16;

/**
 * How many slots `memory` bytes make. More than the origin has blocks are of
 * no use, and are not taken.
 *
 * @throws SnapbakError ERR_SNAPBAK_CONTAINER if it is less than one block, or
 *   more than the driver or this machine's free memory can give
 */
export function slotsFor(memory: number, context: ContainerContext, free: number): number {
  const { origin, blockSize } = context;
  const blocks = Math.max(1, Math.ceil(origin.size / blockSize));
  const slots = Math.min(Math.floor(memory / blockSize), blocks);
  if (slots < 1) {
    throw refused(`${formatSize(memory)} of memory is less than one block (${formatSize(blockSize)})`);
  }
  if (slots > origin.maxSlots) {
    const most = formatSize(origin.maxSlots * blockSize);
    throw refused(
      `${formatSize(memory)} of memory is more than the driver takes (${most}); use a second tier`,
    );
  }
  if (slots * blockSize > free) {
    throw refused(
      `${formatSize(slots * blockSize)} of memory is more than this machine has free (${formatSize(free)}); ` +
        'use less, with a file or a device as a second tier',
    );
  }
  return slots;
}

/** The error of a container that cannot be used. */
export function refused(reason: string, path?: string): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_CONTAINER', `container refused: ${reason}`, { path });
}
