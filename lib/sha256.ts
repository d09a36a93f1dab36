/**
 * The digest that ties a `checksums` file to its manifest.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

/** Small enough that hashing a piece does not keep the event loop for a millisecond. */
const PIECE = 256 * 1024;

/** SHA-256 of a whole file, in hexadecimal; its position does not change. */
export async function sha256Of(file: FileHandle, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(PIECE);
  for (let position = 0; ; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, PIECE, position);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}
