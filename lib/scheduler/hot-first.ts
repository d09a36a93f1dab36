/**
 * The order `hot-first`: what was written most lately is copied first, for it is
 * what will be written again soonest, and a block that is copied needs no capture.
 *
 * Ages count in powers of four: a class of regions written less than a tick
 * before the start, then less than 4 ticks, 16, and so on up to about ten hours.
 * Each class is one ascending pass over the device, with neighbours in one run:
 * so a disk that has to seek goes over itself ten times at most, forward, and a
 * region whose age is known more exactly than that would not be copied much
 * better. What is older comes with the rest, ascending.
 *
 * Memory: a byte a region, of which there are 65,536 at most, and one class as a
 * list at a time.
 */
import type { NativeHeat } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import type { Extent } from '../extent.js';

/** Ages below 4^9 ticks: 9 to 16 hours, whatever the driver's tick is. */
const CLASSES = 10;

export interface HotFirst {
  /** What is copied before the rest: runs of whole blocks of the list, each byte once. */
  extents: Iterable<Extent>;
  /** Bytes of them, with what the list leaves out. */
  bytes: number;
}

/**
 * @param heat as the driver gave it
 * @param blocks the block list, aligned to blocks
 * @param size bytes of the device
 */
export function hotFirst(heat: NativeHeat, blocks: BlockList, blockSize: number, size: number): HotFirst {
  const unit = Math.max(heat.regionSize, blockSize);
  const classes = classesOf(heat, unit / heat.regionSize);
  let bytes = 0;
  for (const [i, age] of classes.entries()) {
    if (age < CLASSES) bytes += Math.min(unit, size - i * unit);
  }
  return { extents: runsOf(classes, unit, blocks, size), bytes };
}

/** The class of each unit of `regions` regions: that of the one written last; `CLASSES` for cold ones. */
function classesOf({ ticks, now }: NativeHeat, regions: number): Uint8Array {
  const classes = new Uint8Array(Math.ceil(ticks.length / regions)).fill(CLASSES);
  for (const [i, tick] of ticks.entries()) {
    if (tick === 0) continue;
    // a region may have been written while the others were looked at: no age is below 0
    const age = Math.max(0, (now - tick) | 0);
    const unit = Math.floor(i / regions);
    classes[unit] = Math.min(classes[unit]!, (33 - Math.clz32(age)) >> 1);
  }
  return classes;
}

function* runsOf(classes: Uint8Array, unit: number, blocks: BlockList, size: number): Generator<Extent> {
  for (let age = 0; age < CLASSES; age++) {
    const runs: Extent[] = [];
    for (let from = classes.indexOf(age); from >= 0; ) {
      let to = from + 1;
      while (classes[to] === age) to++;
      runs.push({ offset: from * unit, length: Math.min(to * unit, size) - from * unit });
      from = classes.indexOf(age, to);
    }
    if (runs.length > 0) yield* BlockList.extents(runs).intersect(blocks);
  }
}
