/**
 * Containers: where captured blocks wait until the target has them. Tier 1 is
 * memory (the slots that the driver captures into), tier 2 a file, a partition
 * or an external device behind it, or several of them in order of preference.
 */
import type { NativeOriginInfo, NativeTier2 } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { type Extent, formatSize } from '../extent.js';
import type { MoveEnd } from './resizable-tier.js';

/** What a container has to know about the backup that is about to begin. */
export interface ContainerContext {
  /** What OPEN answered; the container must not depend on this origin. */
  origin: NativeOriginInfo;
  /** Bytes of a block. */
  blockSize: number;
  /** Other origins of the same backup: it must not depend on one of these either. */
  neighbours?: readonly NativeOriginInfo[];
  /** The slots are another container's: this one gives its second tier only. */
  behind?: boolean;
}

/** A second tier that is open. */
export interface OpenTier extends NativeTier2 {
  /** For people, e.g. `file /scratch/container`. */
  readonly description: string;
  /** A session uses it from now on, until the container is closed, and can move its end. */
  begin?(move: MoveEnd): void;
}

/** A container that is open, in the words of the addon. */
export interface OpenContainer {
  /** Slots of tier 1, one block each. */
  readonly slots: number;
  /** The second tiers, in order of preference. */
  readonly tiers?: readonly OpenTier[];
  /** Bytes of the origin that are the container's own, whole blocks: they are not in the backup. */
  readonly excluded?: readonly Extent[];
  /** Gives everything back. Idempotent. */
  close(): Promise<void>;
}

/** A place for captured blocks. */
export interface Container {
  /** For people, e.g. `memory of 64 MiB`. */
  readonly description: string;
  /** Its second tier, for people, e.g. `10 GiB of file /scratch/container`. */
  readonly second?: string;
  /** @throws SnapbakError ERR_SNAPBAK_CONTAINER with the reason; nothing is left behind */
  open(context: ContainerContext): Promise<OpenContainer>;
}

/** A container whose second tier can be resized while a backup uses it. */
export interface ResizableContainer extends Container {
  /**
   * Gives the second tier another size, between the start and the end of a
   * backup that uses it. Larger: resolves when the space is there. Smaller: from
   * now on no block goes beyond the new end; what lies there is drained to the
   * target first, and the promise resolves when that is done and the space is
   * free. Writers wait for neither. The next backup begins with the size that
   * the container was made with.
   *
   * @param bytes at least 16 blocks; whole blocks of it are used, of a file no more than the origin has
   * @throws TypeError or RangeError for what is no number of bytes; SnapbakError
   *   ERR_SNAPBAK_RESIZE if no backup uses it, there is not enough space, it lies
   *   on the origin's own file system, it was lost, or before it is done the
   *   backup ends or it is resized again
   */
  resize(bytes: number): Promise<void>;
}

/** Tier 1 where only a second tier was asked for: 64 MiB. */
export const DEFAULT_MEMORY = 64 * 2 ** 20;

/** A second tier below this is refused. */
export const MIN_TIER2_BLOCKS = 16;

/**
 * How many slots `memory` bytes make, 0 behind another container. More than the origin has blocks are of
 * no use, and are not taken.
 *
 * @throws SnapbakError ERR_SNAPBAK_CONTAINER if it is less than one block, or
 *   more than the driver or this machine's free memory can give
 */
export function slotsFor(memory: number, context: ContainerContext, free: number): number {
  const { origin, blockSize, behind } = context;
  if (behind) return 0;
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
