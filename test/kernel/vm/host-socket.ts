/** The host's ends of a machine's serial line, virtio-serial ports and monitor: sockets that QEMU connects to. */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';

export class HostSocket {
  /** Arguments for QEMU: a chardev by the name. */
  readonly args: string[];
  #server: Server;
  #socket: Socket | undefined;
  #ended: Promise<void> = Promise.resolve();

  private constructor(server: Server, name: string, path: string) {
    this.#server = server;
    this.args = ['-chardev', `socket,id=${name},path=${path}`];
  }

  /** Listens in the folder `scratch`; `onData` gets what comes. */
  static async listen(name: string, scratch: string, onData: (text: string) => void): Promise<HostSocket> {
    const path = join(scratch, `${name}.sock`);
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    const self = new HostSocket(server, name, path);
    server.once('connection', (socket) => {
      self.#socket = socket;
      self.#ended = new Promise((resolve) => socket.once('close', () => resolve()));
      socket.setEncoding('utf8').on('data', onData);
      // QEMU was killed: its end is told by the process
      socket.on('error', () => socket.destroy());
    });
    return self;
  }

  write(text: string): void {
    this.#socket?.write(text);
  }

  /** Waits until everything that was sent has been read. QEMU must have ended. */
  async close(): Promise<void> {
    await this.#ended;
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
