/**
 * A finished backup as a disk, without restoring it: its image shown over NBD
 * by nbdkit's own file plugin, read-only, or under its cow filter, whose layer
 * of what clients write goes with the server.
 */
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { findNbdkit } from '../serve/nbdkit.js';
import { type ServerExit, startNbdkit } from '../serve/nbdkit-process.js';
import { checkedSocket } from '../serve/paths.js';
import { openBackup } from './backup-files.js';
import { throwIfAborted } from './replay.js';
import { checkCommon } from './verify.js';

export interface ServeBackupOptions {
  /** Path of the backup's directory. */
  backup: string;
  /** Which disk; it must be named if the backup is of several origins. */
  disk?: string | undefined;
  /** Unix socket for NBD clients, made with mode 0600; at most 107 bytes. */
  socket: string;
  /**
   * Let clients write: into a temporary file (in `TMPDIR`, else `/var/tmp`)
   * that goes with the server. The backup does not change. Default: false, read-only
   */
  overlay?: boolean | undefined;
  /** The block device with the image, of a backup made with `deviceTarget`; as in `restore`. */
  imageDevice?: string | undefined;
  /** Each line that nbdkit says while it serves. Default: nobody listens. */
  onMessage?: ((line: string) => void) | undefined;
  /** Ends the server, or the wait for it. */
  signal?: AbortSignal | undefined;
}

/** A backup that is served. */
export interface BackupServer {
  readonly socket: string;
  /** How NBD clients name it. */
  readonly uri: string;
  /** Bytes. */
  readonly size: number;
  /** Blocks that the backup lists and could not read from the origin: they are zeroes in the image. */
  readonly invalidBlocks: number;
  /** nbdkit's process. */
  readonly pid: number;
  /** Resolves when nbdkit has ended, for whatever reason; never rejects. */
  readonly exited: Promise<ServerExit>;
  /** Ends it, and what clients wrote; clients are cut off after two seconds. Idempotent. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Serves a backup, and resolves when clients can connect. Blocks are not
 * compared with their checksums on the way: `verify` does that. What the block
 * list does not name reads as zeroes.
 *
 * @throws TypeError, RangeError for arguments
 * @throws SnapbakError `ERR_SNAPBAK_MANIFEST`, `ERR_SNAPBAK_INCOMPLETE` if the backup broke,
 *   `ERR_SNAPBAK_CORRUPT` if the image is missing or has another size than it had,
 *   `ERR_SNAPBAK_MISSING` without nbdkit, `ERR_SNAPBAK_ORIGIN` with what nbdkit said, `ERR_SNAPBAK_ABORTED`
 * @example
 * await using server = await serveBackup({ backup: '/backup/monday', socket: '/run/monday.sock', overlay: true });
 * console.log(server.uri); // for qemu, nbdfuse, nbd-client, …
 */
export async function serveBackup(
  options: ServeBackupOptions,
  parts: { native?: () => NativeBinding; nbdkit?: () => string } = {},
): Promise<BackupServer> {
  expectOptions('options', options, [
    'backup',
    'disk',
    'socket',
    'overlay',
    'imageDevice',
    'onMessage',
    'signal',
  ]);
  const { backup, disk, imageDevice, overlay = false, onMessage, signal } = options;
  checkCommon({ backup, disk, imageDevice, signal });
  const socket = checkedSocket('options.socket', options.socket);
  expectType('options.overlay', overlay, 'boolean');
  if (onMessage !== undefined) expectType('options.onMessage', onMessage, 'function');
  throwIfAborted(signal, 'server');
  const program = (parts.nbdkit ?? findNbdkit)();
  const files = await openBackup(backup, (parts.native ?? binding)(), imageDevice, disk);
  try {
    const { image, imagePath, manifest } = files;
    const nbdkit = await startNbdkit({
      program,
      args: imageArguments({ socket, overlay, size: manifest.size }),
      descriptors: [image.fd],
      socket,
      image: imagePath,
      onMessage,
      signal,
    });
    const { uri, pid, exited } = nbdkit;
    const stop = () => nbdkit.stop();
    const invalidBlocks = manifest.invalidBlocks.reduce(
      (count, [, length]) => count + Math.ceil(length / manifest.blockSize),
      0,
    );
    return {
      socket,
      uri,
      size: manifest.size,
      invalidBlocks,
      pid,
      exited,
      stop,
      [Symbol.asyncDispose]: stop,
    };
  } finally {
    await files.close(); // nbdkit has inherited it
  }
}

/**
 * nbdkit's command line for an image that it inherits as descriptor 3.
 *
 * The file plugin makes a path real before it opens it, so it would follow
 * whatever the name means by then. As an export of the directory of our
 * descriptors it is opened as what it is: the file that was checked. (From
 * nbdkit 1.34 on there is `fd=3` for that; Debian 12 has 1.32.)
 */
export function imageArguments(what: { socket: string; overlay: boolean; size: number }): string[] {
  const args = ['-f', '--exit-with-parent', '-U', what.socket];
  if (what.overlay) args.push('--filter=cow');
  else args.push('-r');
  // a device may be larger than the image on it
  args.push('--filter=offset', '--filter=exportname', 'file', 'dir=/proc/self/fd');
  args.push('default-export=3', 'exportname=3', 'exportname=', 'exportname-strict=true');
  return [...args, 'exportname-list=explicit', 'offset=0', `range=${what.size}`];
}

/** The error for a server that ended though nobody asked it to. */
export function endedUnasked({ code, signal, messages }: ServerExit, path: string): SnapbakError {
  const said = messages.length > 0 ? `: ${messages.at(-1)}` : '';
  return new SnapbakError('ERR_SNAPBAK_IO', `nbdkit ended (${signal ?? `exit status ${code}`})${said}`, {
    path,
  });
}
