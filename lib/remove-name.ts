/**
 * Removes what we made, and never what somebody else has put in its place.
 */
import { type FileHandle, lstat, unlink } from 'node:fs/promises';

/** Removes the name of a file that is open, unless it means another file by now. */
export async function removeName(path: string, file: FileHandle): Promise<void> {
  const named = await lstat(path).catch(() => undefined);
  const { dev, ino } = await file.stat();
  if (named?.dev === dev && named.ino === ino) await unlink(path);
}
