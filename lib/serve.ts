/**
 * An image served by nbdkit with the snapbak plugin: the user driver, in a
 * process of its own. The data path never comes through here, and the export
 * outlives this process: only `stop()`, the signal or a signal to nbdkit ends it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve as resolvePath } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { expectOptions, expectType } from './arguments.js';
import { SnapbakError } from './errors.js';
import { findNbdkit, findPlugin, nbdkitArguments, nbdkitMessage } from './serve/nbdkit.js';
import {
  clearSocket,
  greetsNbd,
  MAX_SOCKET_PATH,
  makePrivate,
  removeSocket,
  socketState,
} from './serve/sockets.js';

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

/** How nbdkit ended. */
export interface ServerExit {
  /** True after `stop()` or the abort signal, or when nbdkit was told to quit and did. */
  asked: boolean;
  /** Exit status; null when a signal ended it. */
  code: number | null;
  signal: NodeJS.Signals | null;
  /** The last lines that nbdkit said. */
  messages: string[];
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

const START_TIMEOUT_MS = 30_000;
/**
 * nbdkit ends the requests that it has, but then waits for its clients to go,
 * and a mounted file system never does. So it is killed after this time: what it
 * acknowledged is with the kernel by then, and a killed process loses none of it.
 */
const STOP_GRACE_MS = 2000;
const KEPT_MESSAGES = 100;

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
  const nbdkit = (programs.nbdkit ?? findNbdkit)();
  const plugin = (programs.plugin ?? findPlugin)();
  throwIfAborted(signal);
  // nbdkit refuses a socket file that is there; the control socket is the plugin's own care
  await clearSocket(socket);
  throwIfAborted(signal);

  const args = nbdkitArguments({ plugin, image, socket, control, readOnly });
  const child = spawn(nbdkit, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const server = new Nbdkit(child, { image, socket, control }, options.onMessage);
  const abort = () => void server.stop();
  signal?.addEventListener('abort', abort, { once: true });
  void server.exited.then(() => signal?.removeEventListener('abort', abort));

  try {
    await server.ready();
    // nbdkit may still greet us on its way out
    throwIfAborted(signal);
  } catch (error) {
    await server.stop();
    throwIfAborted(signal);
    throw error;
  }
  return server;
}

function checked(options: ServeOptions) {
  expectOptions('options', options, ['image', 'socket', 'control', 'readOnly', 'onMessage', 'signal']);
  const { readOnly = false, signal } = options;
  expectType('options.readOnly', readOnly, 'boolean');
  if (options.onMessage !== undefined) expectType('options.onMessage', options.onMessage, 'function');
  const path = (name: 'image' | 'socket' | 'control') => {
    const value = options[name];
    expectType(`options.${name}`, value, 'string');
    if (value === '' || value.includes('\0')) {
      throw new RangeError(`options.${name} must be a path, not ${JSON.stringify(value)}`);
    }
    return resolvePath(value);
  };
  const paths = { image: path('image'), socket: path('socket'), control: path('control') };
  for (const name of ['socket', 'control'] as const) {
    if (Buffer.byteLength(paths[name]) > MAX_SOCKET_PATH) {
      throw new RangeError(
        `options.${name} must be a path of at most ${MAX_SOCKET_PATH} bytes, not ${paths[name]}`,
      );
    }
  }
  if (paths.socket === paths.control) {
    throw new RangeError(`options.socket and options.control must differ, and both are ${paths.socket}`);
  }
  return { ...paths, readOnly, signal };
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new SnapbakError('ERR_SNAPBAK_ABORTED', 'the server was aborted', { cause: signal.reason });
  }
}

class Nbdkit implements ImageServer {
  readonly image: string;
  readonly socket: string;
  readonly control: string;
  readonly uri: string;
  readonly exited: Promise<ServerExit>;
  readonly #child: ChildProcess;
  #asked = false;
  #gone: ServerExit | undefined;
  #serving = false;
  #socketInode: number | undefined;

  constructor(
    child: ChildProcess,
    paths: { image: string; socket: string; control: string },
    onMessage: (line: string) => void = () => {},
  ) {
    this.#child = child;
    this.image = paths.image;
    this.socket = paths.socket;
    this.control = paths.control;
    this.uri = `nbd+unix:///?socket=${encodeURIComponent(paths.socket).replaceAll('%2F', '/')}`;
    const messages: string[] = [];
    const keep = (text: string | undefined) => {
      if (text === undefined) return;
      messages.push(text);
      if (messages.length > KEPT_MESSAGES) messages.shift();
      // what it said before is in the error, if there is one
      if (this.#serving) onMessage(text);
    };
    createInterface({ input: child.stderr! }).on('line', (line) => keep(nbdkitMessage(line)));
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        removeSocket(this.socket, this.#socketInode);
        this.#gone = { asked: this.#asked || code === 0, code, signal, messages };
        resolve(this.#gone);
      };
      child.once('error', (error) => {
        keep(error.message);
        end(null, null);
      });
      child.once('close', end);
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when both sockets accept; rejects when nbdkit ends before, or takes too long. */
  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (this.#gone === undefined) {
      // the plugin's umask has left it to the owner from its first moment; 0600 is what the others have, too
      if ((await greetsNbd(this.socket)) && (await socketState(this.control)) === 'live') {
        this.#socketInode = makePrivate(this.socket);
        this.#serving = true;
        return;
      }
      if (performance.now() > deadline) {
        throw this.#failed(`nbdkit does not answer within ${START_TIMEOUT_MS / 1000} s`);
      }
      await Promise.race([delay(10), this.exited]);
    }
    const { messages, code, signal } = this.#gone;
    throw this.#failed(messages.join('; ') || `nbdkit ended (${signal ?? `exit status ${code}`})`);
  }

  #failed(why: string): SnapbakError {
    return new SnapbakError('ERR_SNAPBAK_ORIGIN', `cannot serve ${this.image}: ${why}`, { path: this.image });
  }

  async stop(): Promise<void> {
    this.#asked = true;
    if (this.#gone === undefined) this.#child.kill('SIGTERM');
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_GRACE_MS);
    await this.exited;
    clearTimeout(killer);
    // a signal before nbdkit listened for it, or the kill, leaves sockets behind
    for (const path of [this.socket, this.control]) {
      if ((await socketState(path)) === 'dead') await clearSocket(path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
