/** Paths that are given for what is served and for its sockets, checked. */
import { resolve } from 'node:path';
import { expectType } from '../arguments.js';
import { MAX_SOCKET_PATH } from './sockets.js';

/** The absolute path; throws a `TypeError` or `RangeError` that names the argument. */
export function checkedPath(name: string, value: unknown): string {
  expectType(name, value, 'string');
  const path = value as string;
  if (path === '' || path.includes('\0')) {
    throw new RangeError(`${name} must be a path, not ${JSON.stringify(path)}`);
  }
  return resolve(path);
}

/** The same of a Unix socket, which must fit into a socket address. */
export function checkedSocket(name: string, value: unknown): string {
  const path = checkedPath(name, value);
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH) return path;
  throw new RangeError(`${name} must be a path of at most ${MAX_SOCKET_PATH} bytes, not ${path}`);
}
