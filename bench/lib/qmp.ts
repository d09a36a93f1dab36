/** The little of QEMU's machine protocol that the benchmarks need: commands, and waiting for an event. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';

interface Message {
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: Record<string, unknown>;
}

export class Qmp {
  readonly #socket: Socket;
  readonly #answers: { resolve(value: unknown): void; reject(error: Error): void }[] = [];
  readonly #events: Message[] = [];
  readonly #listeners = new Set<() => void>();
  #rest = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) if (line.trim() !== '') this.#take(JSON.parse(line) as Message);
    });
    const gone = (error?: Error) => {
      for (const answer of this.#answers.splice(0))
        answer.reject(error ?? new Error('QMP: connection closed'));
    };
    socket.on('error', gone).on('close', () => gone());
  }

  static async connect(path: string): Promise<Qmp> {
    const socket = createConnection(path);
    await once(socket, 'connect');
    const qmp = new Qmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  }

  execute(command: string, options: Record<string, unknown> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#answers.push({ resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: options })}\n`);
    });
  }

  /** The first event, come or coming, of this name. */
  async event(name: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = this.#events.find((message) => message.event === name);
      if (found !== undefined) return found.data ?? {};
      if (this.#socket.closed) throw new Error(`QMP: connection closed before ${name}`);
      await new Promise<void>((resolve) => {
        this.#listeners.add(resolve);
        this.#socket.once('close', resolve);
      });
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(message: Message): void {
    if (message.event !== undefined) {
      this.#events.push(message);
      for (const listener of this.#listeners) listener();
      this.#listeners.clear();
    } else if (message.error !== undefined) {
      this.#answers.shift()?.reject(new Error(`QMP: ${message.error.class}: ${message.error.desc}`));
    } else if ('return' in message) {
      this.#answers.shift()?.resolve(message.return);
    }
  }
}
