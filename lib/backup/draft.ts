/**
 * The manifest of a backup, as far as the session knows it; the target adds
 * where the image is.
 */

import type { NativeOriginInfo } from '../binding.js';
import type { BlockList } from '../blocks/block-list.js';
import type { Extent } from '../extent.js';
import type { ManifestDraft } from '../manifest.js';
import type { BackupStats } from '../stats.js';

export interface DraftFacts {
  id: string;
  createdAt: Date;
  startedAt: Date;
  info: NativeOriginInfo;
  blockSize: number;
  /** Whole blocks. */
  list: BlockList;
  invalid: Extent[];
  stats: BackupStats;
}

/** The draft of a good backup, or with `error` of a broken one. */
export function draftOf(facts: DraftFacts, error?: { code: string; message: string }): ManifestDraft {
  const { info, invalid, stats } = facts;
  const good = invalid.length === 0 ? 'complete' : 'complete-with-invalid-blocks';
  return {
    id: facts.id,
    state: error === undefined ? good : 'broken',
    createdAt: facts.createdAt.toISOString(),
    startedAt: facts.startedAt.toISOString(),
    finishedAt: new Date().toISOString(),
    origin: { driver: info.driver, id: info.id, size: info.size },
    size: info.size,
    blockSize: facts.blockSize,
    blocks: pairs(facts.list),
    invalidBlocks: pairs(invalid),
    statistics: {
      seconds: stats.seconds,
      armMs: stats.armMs,
      freezeMs: stats.freezeMs,
      listedBlocks: stats.listedBlocks,
      doneBlocks: stats.doneBlocks,
      zeroBlocks: stats.zeroBlocks,
      sweptBlocks: stats.sweptBlocks,
      capturedBlocks: stats.capturedBlocks,
      wantedBlocks: stats.wantedBlocks,
      spilledBlocks: stats.spilledBlocks,
      readBytes: stats.readBytes,
      writtenBytes: stats.writtenBytes,
      writesDelayed: stats.writers.delayed,
      writesHeld: stats.writers.held,
      heldMaxMs: stats.writers.heldMaxMs,
    },
    ...(error === undefined ? {} : { error }),
  };
}

/** Runs of neighbouring blocks in bytes, ascending; the device's last block may be shorter. */
export function runsOf(blocks: Iterable<number>, blockSize: number, size: number): Extent[] {
  const runs: Extent[] = [];
  let last: Extent | undefined;
  for (const block of Float64Array.from(new Set(blocks)).sort()) {
    const offset = block * blockSize;
    const length = Math.min(blockSize, size - offset);
    if (last !== undefined && last.offset + last.length === offset) {
      last.length += length;
    } else {
      last = { offset, length };
      runs.push(last);
    }
  }
  return runs;
}

function pairs(extents: Iterable<Extent>): [number, number][] {
  return Array.from(extents, ({ offset, length }) => [offset, length]);
}
