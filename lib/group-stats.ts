/**
 * The figures of several disks as those of one backup: what can be added is
 * added; of times and levels the longest and the highest. What is of this very
 * moment (speeds, fill, latency) is only of those that still copy: the figures
 * of one that has ended are as of its end.
 */
import type { BackupState } from './backup/running.js';
import { BUCKETS, type LatencyStats, toLatency } from './histogram.js';
import type { BackupStats, DiskStats } from './stats.js';

/** The sweep has not ended, well or not. */
export function copies(state: BackupState): boolean {
  return state === 'running' || state === 'paused';
}

/** @param disks at least one */
export function sumStats(disks: readonly DiskStats[]): BackupStats {
  const all = disks.map(({ stats }) => stats);
  const copying = disks.filter(({ state }) => copies(state)).map(({ stats }) => stats);
  const sum = (value: (stats: BackupStats) => number, of = all) =>
    of.reduce((total, stats) => total + value(stats), 0);
  const sumNow = (value: (stats: BackupStats) => number) => sum(value, copying);
  const most = (value: (stats: BackupStats) => number) => Math.max(...all.map(value));
  const left = copying.map(({ secondsLeft }) => secondsLeft);
  const secondsLeft = left.every((seconds) => seconds !== undefined) ? Math.max(0, ...left) : undefined;
  // who answers slowest is who the sweep yields to most
  const [slowest] = copying
    .map(({ foreground }) => foreground)
    .sort((a, b) => (b.latencyMs ?? 0) - (a.latencyMs ?? 0));
  return {
    totalBytes: sum((s) => s.totalBytes),
    doneBytes: sum((s) => s.doneBytes),
    listedBlocks: sum((s) => s.listedBlocks),
    doneBlocks: sum((s) => s.doneBlocks),
    invalidBlocks: sum((s) => s.invalidBlocks),
    zeroBlocks: sum((s) => s.zeroBlocks),
    sweptBlocks: sum((s) => s.sweptBlocks),
    capturedBlocks: sum((s) => s.capturedBlocks),
    wantedBlocks: sum((s) => s.wantedBlocks),
    spilledBlocks: sum((s) => s.spilledBlocks),
    readBytes: sum((s) => s.readBytes),
    writtenBytes: sum((s) => s.writtenBytes),
    droppedBytes: sum((s) => s.droppedBytes),
    armMs: most((s) => s.armMs),
    freezeMs: most((s) => s.freezeMs),
    seconds: most((s) => s.seconds),
    bytesPerSecond: sumNow((s) => s.bytesPerSecond),
    sweepBytesPerSecond: sumNow((s) => s.sweepBytesPerSecond),
    drainBytesPerSecond: sumNow((s) => s.drainBytesPerSecond),
    ...(secondsLeft === undefined ? {} : { secondsLeft }),
    container: {
      slots: sum((s) => s.container.slots),
      slotsUsed: sumNow((s) => s.container.slotsUsed),
      capacityBytes: sum((s) => s.container.capacityBytes),
      usedBytes: sumNow((s) => s.container.usedBytes),
      tier2CapacityBytes: sum((s) => s.container.tier2CapacityBytes),
      tier2UsedBytes: sumNow((s) => s.container.tier2UsedBytes),
      tiers: disks.flatMap(({ state, stats: { container } }) =>
        copies(state) ? container.tiers : container.tiers.map((tier) => ({ ...tier, usedBytes: 0 })),
      ),
      fill: Math.max(0, ...copying.map((s) => s.container.fill)),
    },
    writers: {
      captured: sum((s) => s.writers.captured),
      captureMs: sum((s) => s.writers.captureMs),
      delayed: sum((s) => s.writers.delayed),
      delayedNow: sumNow((s) => s.writers.delayedNow),
      delayedMs: sum((s) => s.writers.delayedMs),
      held: sum((s) => s.writers.held),
      heldNow: sumNow((s) => s.writers.heldNow),
      heldMs: sum((s) => s.writers.heldMs),
      heldMaxMs: most((s) => s.writers.heldMaxMs),
      waited: sum((s) => s.writers.waited),
      discardsDropped: sum((s) => s.writers.discardsDropped),
      refused: sum((s) => s.writers.refused),
    },
    latency: {
      capture: together(all.map((s) => s.latency.capture)),
      delay: together(all.map((s) => s.latency.delay)),
      hold: together(all.map((s) => s.latency.hold)),
    },
    foreground: slowest ?? {},
    memory: {
      bufferBytes: sum((s) => s.memory.bufferBytes),
      locked: all.every((s) => s.memory.locked),
    },
    disks: [...disks],
  };
}

function together(all: readonly LatencyStats[]): LatencyStats {
  const buckets = new Float64Array(BUCKETS);
  for (const { buckets: some } of all) {
    for (const [i, count] of some.entries()) buckets[i]! += count;
  }
  const sumMs = all.reduce((total, one) => total + one.sumMs, 0);
  return toLatency(buckets, sumMs * 1e6, Math.max(...all.map(({ maxMs }) => maxMs)) * 1e6);
}
