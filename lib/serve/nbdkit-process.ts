/**
 * nbdkit's process, whatever it serves: started with a socket that only its
 * user may connect to, awaited until clients can, ended without leaving a
 * socket behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { SnapbakError } from '../errors.js';
import { nbdkitMessage } from './nbdkit.js';
import { clearSocket, greetsNbd, makePrivate, removeSocket, socketState } from './sockets.js';

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

/** What to run. */
export interface NbdkitCommand {
  /** nbdkit, or a program that becomes it. */
  program: string;
  args: readonly string[];
  /** It gets these as descriptors 3, 4, … */
  descriptors?: readonly number[];
  /** Unix socket for NBD clients, absolute; a dead one that is there is replaced. */
  socket: string;
  /** Another socket that it makes: it is ready when both answer. */
  control?: string;
  /** What is served, for errors. */
  image: string;
  /** Each line that nbdkit says while it serves. */
  onMessage?: ((line: string) => void) | undefined;
  /** Ends it, or the wait for it. */
  signal?: AbortSignal | undefined;
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
 * Starts nbdkit, and resolves when clients can connect.
 *
 * @throws SnapbakError `ERR_SNAPBAK_ORIGIN` with what nbdkit said,
 *   `ERR_SNAPBAK_ABORTED` by the signal
 */
export async function startNbdkit(command: NbdkitCommand): Promise<NbdkitProcess> {
  const { signal } = command;
  throwIfAborted(signal);
  // nbdkit refuses a socket file that is there; the control socket is the plugin's own care
  await clearSocket(command.socket);
  throwIfAborted(signal);
  const server = new NbdkitProcess(command);
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

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new SnapbakError('ERR_SNAPBAK_ABORTED', 'the server was aborted', { cause: signal.reason });
  }
}

/** How NBD clients name what is served at a socket. */
export function nbdUri(socket: string): string {
  return `nbd+unix:///?socket=${encodeURIComponent(socket).replaceAll('%2F', '/')}`;
}

export class NbdkitProcess {
  /** Resolves when nbdkit has ended, for whatever reason; never rejects. */
  readonly exited: Promise<ServerExit>;
  readonly #command: NbdkitCommand;
  readonly #child: ChildProcess;
  #asked = false;
  #gone: ServerExit | undefined;
  #serving = false;
  #socketInode: number | undefined;

  /** Starts it; `startNbdkit` makes the place ready before, and waits. */
  constructor(command: NbdkitCommand) {
    this.#command = command;
    const { program, args, descriptors = [], socket, onMessage = () => {} } = command;
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', ...descriptors] });
    this.#child = child;
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
        removeSocket(socket, this.#socketInode);
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

  get uri(): string {
    return nbdUri(this.#command.socket);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when its sockets accept; rejects when nbdkit ends before, or takes too long. */
  async ready(): Promise<void> {
    const { socket } = this.#command;
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (this.#gone === undefined) {
      // the umask has left it to the owner from its first moment; 0600 is what the others have, too
      if ((await greetsNbd(socket)) && (await this.#controlIsLive())) {
        this.#socketInode = makePrivate(socket);
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

  async #controlIsLive(): Promise<boolean> {
    const { control } = this.#command;
    return control === undefined || (await socketState(control)) === 'live';
  }

  #failed(why: string): SnapbakError {
    const { image } = this.#command;
    return new SnapbakError('ERR_SNAPBAK_ORIGIN', `cannot serve ${image}: ${why}`, { path: image });
  }

  /** Ends it; clients are cut off after two seconds. Idempotent. */
  async stop(): Promise<void> {
    this.#asked = true;
    if (this.#gone === undefined) this.#child.kill('SIGTERM');
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_GRACE_MS);
    await this.exited;
    clearTimeout(killer);
    // a signal before nbdkit listened for it, or the kill, leaves sockets behind
    const { socket, control } = this.#command;
    for (const path of control === undefined ? [socket] : [socket, control]) {
      if ((await socketState(path)) === 'dead') await clearSocket(path);
    }
  }
}
