/** A served image for tests: one call, unique folders, nothing left behind. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServeOptions, serve } from '../../lib/serve.js';

export interface StartedServer {
  image: string;
  /** The NBD socket. */
  nbd: string;
  /** The control socket. */
  control: string;
  uri: string;
  /** nbdkit's process. */
  pid: number;
  /** What nbdkit said. */
  messages: string[];
  /** Ends nbdkit, and removes the folder that was made for it. Idempotent. */
  stop(): Promise<void>;
  /** Ends nbdkit as a crash would; the image stays. */
  kill(): Promise<void>;
}

/** An empty folder of one test's own. */
export async function temporaryFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'snapbak-serve-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/**
 * Serves an image: a path, or a new one of so many zero bytes. `folder` holds
 * the sockets (and the new image); without it there is a temporary one, which
 * `stop()` removes.
 */
export async function startServer(
  image: string | number,
  { folder, ...options }: { folder?: string } & Partial<ServeOptions> = {},
): Promise<StartedServer> {
  const own = folder === undefined ? await temporaryFolder() : undefined;
  const at = folder ?? own!.path;
  try {
    const path = typeof image === 'string' ? image : join(at, 'disk.img');
    if (typeof image === 'number') {
      const file = await open(path, 'w');
      await file.truncate(image);
      await file.close();
    }
    const messages: string[] = [];
    const server = await serve({
      image: path,
      socket: join(at, 'nbd.sock'),
      control: join(at, 'control.sock'),
      onMessage: (line) => messages.push(line),
      ...options,
    });
    return {
      image: server.image,
      nbd: server.socket,
      control: server.control,
      uri: server.uri,
      pid: server.pid,
      messages,
      async stop() {
        await server.stop();
        await own?.remove();
      },
      async kill() {
        process.kill(server.pid, 'SIGKILL');
        await server.exited;
      },
    };
  } catch (error) {
    await own?.remove();
    throw error;
  }
}
