/**
 * One pass of the addon over a backup's blocks, checked or written or both,
 * with progress and a way to stop it.
 */

import type { NativeBinding, NativeReplay, NativeReplayOptions, NativeReplayResult } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import { SnapbakError } from '../errors.js';
import type { Extent } from '../extent.js';
import type { ExtentPair } from '../manifest-format.js';
import { systemError } from '../system-error.js';
import type { BackupFiles } from './backup-files.js';

/** How far a restore or a verify is. */
export interface ReplayProgress {
  /** Bytes of the block list that are done. */
  doneBytes: number;
  /** Bytes of the block list, without invalid blocks. */
  totalBytes: number;
  /** Blocks found damaged so far. */
  badBlocks: number;
}

/** What `restore` and `verify` resolve with. */
export interface ReplayResult {
  /** Bytes of the block list that were checked or restored. */
  bytes: number;
  /** Damaged blocks: 0, for with any it is an error. */
  badBlocks: number;
  /** Blocks that the backup lists but could not read from the origin; they were skipped. */
  invalidBlocks: number;
  /** Where those are. */
  invalidExtents: Extent[];
  /** How long it took. */
  seconds: number;
}

/** What can be watched and stopped. */
export interface ReplayControl {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: ReplayProgress) => void) | undefined;
  /** `restore` or `verify`, for errors. */
  doing: 'restore' | 'verify';
}

const PROGRESS_MS = 200;
const THREADS = 2;

/**
 * Runs it to the end.
 *
 * @throws SnapbakError ERR_SNAPBAK_ABORTED, ERR_SNAPBAK_CORRUPT with the first
 *   damaged block and their count, ERR_SNAPBAK_RESTORE if the target of a
 *   restore fails, ERR_SNAPBAK_IO if the backup cannot be read
 */
export async function replay(
  native: NativeBinding,
  files: BackupFiles,
  what: { target?: NativeReplayOptions['target']; check: boolean },
  control: ReplayControl,
): Promise<ReplayResult> {
  const { manifest } = files;
  const began = performance.now();
  const invalid = BlockList.extents(extentsOf(manifest.invalidBlocks));
  // taken out as extents: as single blocks they could be a thousand million
  const good = BlockList.extents(extentsOf(manifest.blocks)).subtract(invalid);
  const options: NativeReplayOptions = {
    imageFd: files.image.fd,
    checksumsFd: files.checksums.fd,
    imageSize: manifest.size,
    blockSize: manifest.blockSize,
    threads: THREADS,
    check: what.check,
    extents: good.flat(),
    skip: new Float64Array(),
  };
  if (what.target !== undefined) options.target = what.target;
  const result = await run(native, options, good.bytes, files, control);
  if (result.badBlocks > 0) throw damaged(files, result);
  return {
    bytes: result.doneBytes,
    badBlocks: 0,
    invalidBlocks: invalid.count(manifest.blockSize),
    invalidExtents: [...invalid],
    seconds: (performance.now() - began) / 1000,
  };
}

async function run(
  native: NativeBinding,
  options: NativeReplayOptions,
  totalBytes: number,
  files: BackupFiles,
  { signal, onProgress, doing }: ReplayControl,
): Promise<NativeReplayResult> {
  throwIfAborted(signal, doing);
  let running: NativeReplay | undefined;
  let mistake: { thrown: unknown } | undefined;
  const stop = () => running?.cancel();
  const timer = setInterval(() => {
    if (running === undefined || mistake !== undefined) return;
    const { doneBytes, badBlocks } = running.stats();
    try {
      onProgress?.({ doneBytes, totalBytes, badBlocks });
    } catch (thrown) {
      mistake = { thrown };
      stop();
    }
  }, PROGRESS_MS);
  signal?.addEventListener('abort', stop);
  try {
    running = native.replay(options);
    if (signal?.aborted) stop();
    const result = await running.finished;
    if (mistake === undefined) {
      onProgress?.({ doneBytes: result.doneBytes, totalBytes, badBlocks: result.badBlocks });
      return result;
    }
  } catch (cause) {
    if (mistake === undefined) {
      throwIfAborted(signal, doing);
      throw failed(cause, files, doing);
    }
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', stop);
  }
  // a mistake in the caller's function is the caller's to see as it is
  throw mistake.thrown;
}

/** @throws SnapbakError ERR_SNAPBAK_ABORTED if the signal says so */
export function throwIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted) {
    throw new SnapbakError('ERR_SNAPBAK_ABORTED', `the ${doing} was aborted`, { cause: signal.reason });
  }
}

function failed(cause: unknown, { imagePath }: BackupFiles, doing: string): unknown {
  const stage = (cause as { stage?: unknown } | null)?.stage;
  if (stage === undefined) return cause; // not of the system: a mistake of ours, which must not be dressed up
  if (stage === 'target') return systemError('ERR_SNAPBAK_RESTORE', 'cannot write what is restored', cause);
  if (stage === 'checksums') {
    return systemError('ERR_SNAPBAK_IO', `cannot ${doing}: the checksums cannot be read`, cause);
  }
  const what = stage === 'image' ? `the image ${imagePath} cannot be read` : imagePath;
  return systemError('ERR_SNAPBAK_IO', `cannot ${doing}: ${what}`, cause, imagePath);
}

function damaged({ manifest, imagePath }: BackupFiles, { badBlocks, bad }: NativeReplayResult): SnapbakError {
  // several threads report: the first one told need not be the first one there is
  const offset = Math.min(...bad) * manifest.blockSize;
  const length = Math.min(manifest.blockSize, manifest.size - offset);
  const count =
    badBlocks === 1
      ? 'one block differs from its checksum'
      : `${badBlocks} blocks differ from their checksums`;
  return new SnapbakError(
    'ERR_SNAPBAK_CORRUPT',
    `${imagePath} is damaged: ${count}, the first at byte ${offset}`,
    {
      path: imagePath,
      extent: { offset, length },
    },
  );
}

function extentsOf(pairs: readonly ExtentPair[]): Extent[] {
  return pairs.map(([offset, length]) => ({ offset, length }));
}
