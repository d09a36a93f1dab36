/**
 * The used blocks of an origin as of now: a session of a moment, which copies
 * nothing. What applications write meanwhile is captured as in any session, so
 * that the list is that of one instant, and thrown away at its end.
 */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { NativeOriginInfo } from '../../binding.js';
import { fromNative } from '../../native-errors.js';
import type { Origin } from '../../origin.js';
import { usedAtStart } from './at-start.js';
import type { UsedBlocks } from './compile.js';

const BLOCK = 65_536;
const SLOTS = 64;
/** A moment: writers wait no longer for it. */
const PATIENCE_MS = 10_000;

/** @throws SnapbakError that says why there is no session */
export async function usedBlocksNow(origin: Origin): Promise<UsedBlocks> {
  await origin.writeDirtyPages();
  const session = origin.createSession();
  try {
    const info = await session.open();
    await using files = await unnamedFiles();
    const target = { fd: files.image, fresh: true };
    await session.prepare({ ...settings(info), target, checksumsFd: files.checksums });
    await session.start(PATIENCE_MS);
    const found = await usedAtStart(() => session.openView(), { name: origin.spec, size: info.size });
    await session.abort().catch(() => {}); // it may be broken, or gone, already
    return found;
  } catch (error) {
    throw fromNative(error, { path: origin.spec, doing: 'find the used blocks' });
  } finally {
    await session.close().catch(() => {});
  }
}

function settings(info: NativeOriginInfo) {
  return {
    blockSize: Math.min(Math.max(BLOCK, info.minBlockSize), info.maxBlockSize),
    slots: SLOTS,
    onFull: 'break' as const,
    holdTimeoutMs: PATIENCE_MS,
    stallTimeoutMs: PATIENCE_MS,
    listed: Float64Array.of(0, info.size),
    tiers: [],
    watermarkLow: SLOTS / 2,
    drainTo: SLOTS / 2,
    copyThreads: 1,
    readBytes: BLOCK * 8,
    onNotice() {},
  };
}

/** In memory, for a file on the origin's own file system would wait for the writes that this session holds. */
async function unnamedFiles() {
  const folder = await mkdtemp('/dev/shm/snapbak-').catch(() => mkdtemp(join(tmpdir(), 'snapbak-')));
  try {
    const [image, checksums] = [
      await open(join(folder, 'image'), 'wx+'),
      await open(join(folder, 'sums'), 'wx+'),
    ];
    return {
      image: image.fd,
      checksums: checksums.fd,
      async [Symbol.asyncDispose]() {
        await Promise.all([image.close(), checksums.close()]);
      },
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
