/**
 * Programs of other packages: in PATH, and in the folders that a user's PATH
 * may lack.
 */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const USUAL = ['/usr/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/local/sbin'];

/** The program's absolute path, or undefined. */
export function findProgram(name: string, path = process.env.PATH ?? ''): string | undefined {
  const folders = path.split(delimiter).filter((folder) => folder.startsWith('/'));
  return [...folders, ...USUAL].map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
