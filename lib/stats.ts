/**
 * The figures of a running backup as people and programs want them: made of
 * the counters that the driver and the copy threads keep. No system call.
 */
import type { BackupState } from './backup/running.js';
import type { NativeStats } from './binding.js';
import { type LatencyStats, toLatency } from './histogram.js';
import type { ForegroundStats } from './scheduler/governor.js';

/** A picture of a running or ended backup. Bytes, blocks, milliseconds; counted from the start. */
export interface BackupStats {
  /** Bytes of the block list, in whole blocks. */
  totalBytes: number;
  /** Of these, bytes that are in the target. */
  doneBytes: number;
  listedBlocks: number;
  doneBlocks: number;
  /** Blocks that could not be read from the origin. */
  invalidBlocks: number;
  /** Of the done blocks, those that are all zeroes: holes where the target can. */
  zeroBlocks: number;
  /** Blocks that the sweep took. */
  sweptBlocks: number;
  /** Blocks that came from captures. */
  capturedBlocks: number;
  /** Blocks copied first because a write was held for them. */
  wantedBlocks: number;
  /** Blocks ever moved to the second tier. */
  spilledBlocks: number;
  readBytes: number;
  writtenBytes: number;
  /** Read by the sweep, and captured meanwhile: read for nothing. */
  droppedBytes: number;
  /** How long writes stood still for the start, and file systems were frozen (0: none was), milliseconds. */
  armMs: number;
  freezeMs: number;
  /** Since the start instant. */
  seconds: number;
  /** Done in about the last three seconds. */
  bytesPerSecond: number;
  /** Of these, what the sweep took, in the same time. */
  sweepBytesPerSecond: number;
  /** Captured blocks that left the container for the target, in the same time. */
  drainBytesPerSecond: number;
  /** At that speed; absent while it is not known. */
  secondsLeft?: number;
  container: {
    /** Tier 1: slots in memory. */
    slots: number;
    slotsUsed: number;
    capacityBytes: number;
    usedBytes: number;
    /** Tier 2, without what is lost of it; 0 without one. */
    tier2CapacityBytes: number;
    tier2UsedBytes: number;
    /** The second tiers, in order of preference. One that shrinks may hold more than its capacity for a while. */
    tiers: { description: string; capacityBytes: number; usedBytes: number; lost: boolean }[];
    /** Of both tiers, 0 to 1. */
    fill: number;
  };
  /** What writers met. */
  writers: {
    /** Blocks captured into a slot, and the time it took, summed. */
    captured: number;
    captureMs: number;
    /** Writes delayed by the throttle: all, at this moment, and for how long, summed. */
    delayed: number;
    delayedNow: number;
    delayedMs: number;
    /** Writes held for want of a slot: all, at this moment, summed time, the longest. */
    held: number;
    heldNow: number;
    heldMs: number;
    heldMaxMs: number;
    /** Writes that waited for the capture of another. */
    waited: number;
    discardsDropped: number;
    /** No-wait writes that were refused. */
    refused: number;
  };
  /** How long it took, as the driver measured it. */
  latency: {
    /** To capture a block, from its claim to its event: what the first write to it waited. */
    capture: LatencyStats;
    /** A write that was delayed. */
    delay: LatencyStats;
    /** A write that was held; one that is held again counts again. */
    hold: LatencyStats;
  };
  /** The application's own requests, and how the sweep yields to them. */
  foreground: ForegroundStats;
  memory: {
    /** What copying holds besides the slots. */
    bufferBytes: number;
    /** The buffers cannot be swapped out. */
    locked: boolean;
  };
  /**
   * Of a backup of several origins, the figures of each. Those above are sums
   * then; of times and of `fill` the highest; `foreground` is that of the origin
   * which answers slowest. What is of this moment (speeds, `secondsLeft`, what
   * is in use, `fill`, writes delayed or held now, `foreground`) is of those
   * that still copy: 0, or absent, once all have ended.
   */
  disks?: DiskStats[];
}

/** One of several origins. */
export interface DiskStats {
  /** What it is called in the backup. */
  name: string;
  /** As of the backup; `finished`: all of it is in its image, durably. */
  state: BackupState;
  stats: BackupStats;
}

const NS_PER_MS = 1e6;

/** Bytes a second. */
export interface Speeds {
  done: number;
  sweep: number;
  drain: number;
}

export const STANDSTILL: Speeds = { done: 0, sweep: 0, drain: 0 };

/** What the counters do not say. */
export interface Surroundings {
  /** The second tiers, for people. */
  tiers?: readonly string[];
  foreground?: ForegroundStats;
}

/** @param seconds since the start instant */
export function toStats(
  native: NativeStats,
  blockSize: number,
  seconds: number,
  speeds: Speeds,
  { tiers = [], foreground = {} }: Surroundings = {},
): BackupStats {
  const { counters, histograms } = native;
  const speed = speeds.done;
  const totalBytes = native.listedBlocks * blockSize;
  const doneBytes = native.doneBlocks * blockSize;
  const capacity = native.slotsTotal + native.tier2Total;
  const left = Math.max(0, totalBytes - doneBytes - native.invalidBlocks * blockSize);
  return {
    totalBytes,
    doneBytes,
    listedBlocks: native.listedBlocks,
    doneBlocks: native.doneBlocks,
    invalidBlocks: native.invalidBlocks,
    zeroBlocks: native.zeroBlocks,
    sweptBlocks: native.sweptBlocks,
    capturedBlocks: native.capturedBlocks,
    wantedBlocks: native.wantedBlocks,
    spilledBlocks: native.spilledBlocks,
    readBytes: native.readBytes,
    writtenBytes: native.writtenBytes,
    droppedBytes: native.droppedBytes,
    armMs: native.armNs / NS_PER_MS,
    freezeMs: native.freezeNs / NS_PER_MS,
    seconds,
    bytesPerSecond: speed,
    sweepBytesPerSecond: speeds.sweep,
    drainBytesPerSecond: speeds.drain,
    ...(left === 0 ? { secondsLeft: 0 } : speed > 0 ? { secondsLeft: left / speed } : {}),
    container: {
      slots: native.slotsTotal,
      slotsUsed: native.slotsUsed,
      capacityBytes: native.slotsTotal * blockSize,
      usedBytes: native.slotsUsed * blockSize,
      tier2CapacityBytes: native.tier2Total * blockSize,
      tier2UsedBytes: native.tier2Used * blockSize,
      tiers: native.tiers.map(({ total, used, lost }, number) => ({
        description: tiers[number] ?? `second tier ${number + 1}`,
        capacityBytes: total * blockSize,
        usedBytes: used * blockSize,
        lost,
      })),
      fill: capacity === 0 ? 0 : Math.min(1, (native.slotsUsed + native.tier2Used) / capacity),
    },
    writers: {
      captured: counters.captured,
      captureMs: counters.captureNs / NS_PER_MS,
      delayed: counters.delayed,
      delayedNow: counters.delayedNow,
      delayedMs: counters.delayedNs / NS_PER_MS,
      held: counters.held,
      heldNow: counters.heldNow,
      heldMs: counters.heldNs / NS_PER_MS,
      heldMaxMs: counters.heldMaxNs / NS_PER_MS,
      waited: counters.waited,
      discardsDropped: counters.discardsDropped,
      refused: counters.eagain,
    },
    latency: {
      capture: toLatency(histograms.capture, counters.captureNs, counters.captureMaxNs),
      delay: toLatency(histograms.delay, counters.delayedNs, counters.delayedMaxNs),
      hold: toLatency(histograms.hold, counters.heldNs, counters.heldMaxNs),
    },
    foreground,
    memory: { bufferBytes: native.bufferBytes, locked: native.memoryLocked },
  };
}

/** The speeds of a backup, of samples of its counters. */
export class SpeedPanel {
  readonly #blockSize: number;
  readonly #done = new Speedometer();
  readonly #sweep = new Speedometer();
  readonly #drain = new Speedometer();

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  sample(at: number, native: NativeStats): Speeds {
    const { doneBlocks, sweptBlocks, capturedBlocks, slotsUsed, tier2Used } = native;
    const drained = capturedBlocks - slotsUsed - tier2Used;
    return {
      done: this.#done.sample(at, doneBlocks * this.#blockSize),
      sweep: this.#sweep.sample(at, sweptBlocks * this.#blockSize),
      // each figure is exact, but they are not of one instant
      drain: Math.max(0, this.#drain.sample(at, drained * this.#blockSize)),
    };
  }
}

/** Speed over the last few seconds, from samples a few times a second. */
export class Speedometer {
  readonly #windowMs: number;
  #samples: { at: number; bytes: number }[] = [];

  constructor(windowMs = 3000) {
    this.#windowMs = windowMs;
  }

  /** Adds a sample; the answer is bytes a second, 0 while there is only one. */
  sample(at: number, bytes: number): number {
    this.#samples.push({ at, bytes });
    while (this.#samples.length > 2 && this.#samples[1]!.at <= at - this.#windowMs) this.#samples.shift();
    const first = this.#samples[0]!;
    return at > first.at ? ((bytes - first.bytes) * 1000) / (at - first.at) : 0;
  }
}
