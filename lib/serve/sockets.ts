/**
 * The Unix sockets of a server, seen from outside: is anybody there, and who
 * may come. Nothing here speaks the control protocol; that is the addon's.
 */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { SnapbakError } from '../errors.js';

/** Longer paths do not fit into a socket address. */
export const MAX_SOCKET_PATH = 107;

/** Whether a server accepts connections at `path`; `dead`: the file is there, its server is not. */
export async function socketState(path: string): Promise<'live' | 'dead' | 'absent' | 'other'> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 'absent';
  if (!stats.isSocket()) return 'other';
  try {
    (await connect(path)).destroy();
    return 'live';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'absent';
    return code === 'ECONNREFUSED' ? 'dead' : 'live';
  }
}

/**
 * Removes what a killed server left behind, so that nbdkit can listen at `path`.
 *
 * @throws SnapbakError `ERR_SNAPBAK_ORIGIN` when a server lives there, or when it is no socket.
 */
export async function clearSocket(path: string): Promise<void> {
  const state = await socketState(path);
  if (state === 'dead') {
    rmSync(path, { force: true });
  } else if (state !== 'absent') {
    const why = state === 'live' ? 'another server listens there' : 'there is a file that is no socket';
    throw new SnapbakError('ERR_SNAPBAK_ORIGIN', `cannot listen on ${path}: ${why}`, { path });
  }
}

/** Removes the socket file with that inode; another server's stays. */
export function removeSocket(path: string, inode: number | undefined): void {
  if (inode === undefined) return;
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats?.isSocket() && stats.ino === inode) rmSync(path, { force: true });
}

/** Mode 0600; gives the socket's inode, or undefined if it is gone already. */
export function makePrivate(path: string): number | undefined {
  try {
    chmodSync(path, 0o600);
    return lstatSync(path).ino;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function connect(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

// The fixed newstyle handshake, see doc/proto.md of NBD: the greeting, and a
// client that knows its manners and leaves again. A connection that just drops
// would leave an error in nbdkit's log.
const GREETING = 18;
const LEAVE = Buffer.concat([
  Buffer.from([0, 0, 0, 3]), // client flags: fixed newstyle, no zeroes
  Buffer.from('IHAVEOPT'),
  Buffer.from([0, 0, 0, 2, 0, 0, 0, 0]), // NBD_OPT_ABORT, no data
]);

/** True when an NBD server greets us at `path` within `timeoutMs`. */
export async function greetsNbd(path: string, timeoutMs = 1000): Promise<boolean> {
  const socket = await connect(path).catch(() => undefined);
  if (socket === undefined) return false;
  return await new Promise((resolve) => {
    let received = Buffer.alloc(0);
    let greeted = false;
    socket.setTimeout(timeoutMs, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(greeted));
    socket.on('end', () => socket.destroy());
    socket.on('data', (data) => {
      if (greeted) return;
      received = Buffer.concat([received, data]);
      if (received.length < GREETING) return;
      greeted = received.subarray(0, 16).toString('latin1') === 'NBDMAGICIHAVEOPT';
      if (greeted) socket.write(LEAVE);
      else socket.destroy();
    });
  });
}
