/** Disk images whose every sector says which one it is, and who wrote it. */
import { open, stat } from 'node:fs/promises';

const SECTOR = 512;

/**
 * `length` bytes as they stand at `offset`: each sector begins with its own
 * number and the generation, so that a mismatch tells which write it came from.
 */
export function stamped(offset: number, length: number, generation: number): Buffer {
  const first = Math.floor(offset / SECTOR);
  const last = Math.ceil((offset + length) / SECTOR);
  const whole = Buffer.alloc((last - first) * SECTOR);
  for (let sector = first; sector < last; sector += 1) {
    const at = (sector - first) * SECTOR;
    // not compressible to nothing, and never all zero
    whole.fill((sector * 31 + generation * 17 + 1) & 0xff, at, at + SECTOR);
    whole.writeDoubleLE(sector, at);
    whole.writeUInt32LE(generation, at + 8);
  }
  const skip = offset - first * SECTOR;
  return whole.subarray(skip, skip + length);
}

/** A new file of `size` stamped bytes. */
export async function makeImage(path: string, size: number, generation = 1): Promise<void> {
  const file = await open(path, 'w');
  try {
    for (let at = 0; at < size; at += 1 << 20) {
      const length = Math.min(1 << 20, size - at);
      await file.write(stamped(at, length, generation), 0, length, at);
    }
  } finally {
    await file.close();
  }
}

/** Fails at the first byte in which two files (or devices) differ; they must be of one length too. */
export async function expectSame(actual: string, expected: string, length?: number): Promise<void> {
  const [a, b] = [await open(actual, 'r'), await open(expected, 'r')];
  try {
    const size = length ?? (await stat(expected)).size;
    if (length === undefined && (await stat(actual)).size !== size) {
      throw new Error(`${actual} has ${(await stat(actual)).size} bytes, ${expected} has ${size}`);
    }
    const [x, y] = [Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)];
    for (let at = 0; at < size; at += x.length) {
      const want = Math.min(x.length, size - at);
      const [left, right] = await Promise.all([a.read(x, 0, want, at), b.read(y, 0, want, at)]);
      if (left.bytesRead !== want || right.bytesRead !== want) {
        throw new Error(`short read at ${at}: ${left.bytesRead} and ${right.bytesRead} of ${want}`);
      }
      const wrong = firstDifference(x.subarray(0, want), y.subarray(0, want));
      if (wrong < 0) continue;
      const sector = wrong - ((at + wrong) % SECTOR);
      const say = (data: Buffer) =>
        data.subarray(Math.max(0, sector), Math.max(0, sector) + 16).toString('hex');
      throw new Error(
        `${actual} differs from ${expected} at byte ${at + wrong} of ${size}: ` +
          `its sector begins ${say(x)} instead of ${say(y)}`,
      );
    }
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
}

function firstDifference(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return -1;
  return a.findIndex((byte, i) => byte !== b[i]);
}

/** A number generator that gives the same row for the same seed. */
export function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
