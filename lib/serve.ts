/**
 * An image served by nbdkit with the snapbak plugin: the user driver, in a
 * process of its own. The data path never comes through here, and the export
 * outlives this process: only `stop()`, the signal or a signal to nbdkit ends it.
 */
import { expectOptions, expectType } from './arguments.js';
import { findNbdkit, findPlugin, nbdkitArguments } from './serve/nbdkit.js';
import { type NbdkitProcess, type ServerExit, startNbdkit } from './serve/nbdkit-process.js';
import { checkedPath, checkedSocket } from './serve/paths.js';

export type { ServerExit } from './serve/nbdkit-process.js';

export interface ServeOptions {
  /** The image file or block device. */
  image: string;
  /** Unix socket for NBD clients, made with mode 0600; at most 107 bytes. */
  socket: string;
  /** Unix socket for backups: `openOrigin('unix:' + control)`; at most 107 bytes. */
  control: string;
  /** Export it without writes. Default: false. */
  readOnly?: boolean;
  /** Each line that nbdkit says while it serves. Default: nobody listens. */
  onMessage?: (line: string) => void;
  /** Ends the server, or the wait for it. */
  signal?: AbortSignal;
}

/** A running server. */
export interface ImageServer {
  readonly image: string;
  readonly socket: string;
  readonly control: string;
  /** How NBD clients name the export. */
  readonly uri: string;
  /** nbdkit's process. */
  readonly pid: number;
  /** Resolves when nbdkit has ended, for whatever reason; never rejects. */
  readonly exited: Promise<ServerExit>;
  /** Ends the server, and a session on it; clients are cut off after two seconds. Idempotent. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Programs that tests replace. */
export interface ServePrograms {
  nbdkit?: () => string;
  plugin?: () => string;
}

/**
 * Serves `image`, and resolves when clients and backups can connect.
 *
 * @throws SnapbakError `ERR_SNAPBAK_MISSING` without nbdkit or its plugin,
 *   `ERR_SNAPBAK_ORIGIN` when nbdkit cannot serve it (with what it said),
 *   `ERR_SNAPBAK_ABORTED` by the signal.
 * @example
 * await using server = await serve({ image: 'disk.img', socket: 'nbd.sock', control: 'control.sock' });
 * const origin = await openOrigin(`unix:${server.control}`);
 */
export async function serve(options: ServeOptions, programs: ServePrograms = {}): Promise<ImageServer> {
  const { image, socket, control, readOnly, signal } = checked(options);
  const program = (programs.nbdkit ?? findNbdkit)();
  const plugin = (programs.plugin ?? findPlugin)();
  const args = nbdkitArguments({ plugin, image, socket, control, readOnly });
  const { onMessage } = options;
  const nbdkit = await startNbdkit({ program, args, socket, control, image, onMessage, signal });
  return new Server(nbdkit, { image, socket, control });
}

function checked(options: ServeOptions) {
  expectOptions('options', options, ['image', 'socket', 'control', 'readOnly', 'onMessage', 'signal']);
  const { readOnly = false, signal } = options;
  expectType('options.readOnly', readOnly, 'boolean');
  if (options.onMessage !== undefined) expectType('options.onMessage', options.onMessage, 'function');
  const paths = {
    image: checkedPath('options.image', options.image),
    socket: checkedSocket('options.socket', options.socket),
    control: checkedSocket('options.control', options.control),
  };
  if (paths.socket === paths.control) {
    throw new RangeError(`options.socket and options.control must differ, and both are ${paths.socket}`);
  }
  return { ...paths, readOnly, signal };
}

class Server implements ImageServer {
  readonly image: string;
  readonly socket: string;
  readonly control: string;
  readonly uri: string;
  readonly pid: number;
  readonly exited: Promise<ServerExit>;
  readonly #nbdkit: NbdkitProcess;

  constructor(nbdkit: NbdkitProcess, paths: { image: string; socket: string; control: string }) {
    this.#nbdkit = nbdkit;
    this.image = paths.image;
    this.socket = paths.socket;
    this.control = paths.control;
    this.uri = nbdkit.uri;
    this.pid = nbdkit.pid;
    this.exited = nbdkit.exited;
  }

  stop(): Promise<void> {
    return this.#nbdkit.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
