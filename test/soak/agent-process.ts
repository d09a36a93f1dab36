/** The parent's end of `agent.ts`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { News, Order } from './agent.js';
import type { Disk } from './writer.js';

const SCRIPT = fileURLToPath(new URL('agent.ts', import.meta.url));
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

type Kind = News['news'];

/** Orders that have an answer of their own. */
type Request =
  | { order: 'write'; offset: number; length: number; generation: number }
  | { order: 'read'; offset: number; length: number }
  | { order: 'flush' };

interface Waiting {
  resolve(news: Extract<News, { news: 'done' }>): void;
  reject(error: Error): void;
}

/** A process with the library in it, and its embedded origin, if it has one, as a disk. */
export class AgentProcess implements Disk {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #news: News[] = [];
  readonly #requests = new Map<number, Waiting>();
  #id = 0;
  #look = () => {};
  #said = '';
  #gone: Error | undefined;

  constructor() {
    this.#child = spawn(process.execPath, ['--expose-gc', '--import', 'tsx', SCRIPT], {
      cwd: ROOT, // where tsx is
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced',
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-16_384);
    });
    this.#child.on('message', (news: News) => this.#take(news));
    this.#exited = new Promise((resolve) => {
      const end = (why: string) => {
        this.#gone ??= new Error(`the library's process ended: ${why}\n${this.#said}`);
        for (const { reject } of this.#requests.values()) reject(this.#gone);
        this.#requests.clear();
        this.#look();
        resolve();
      };
      this.#child.once('error', (error) => end(error.message));
      this.#child.once('close', (code, signal) => end(signal ?? `exit status ${code}`));
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What it said on standard error, where Node tells of files that nobody closed. */
  get said(): string {
    return this.#said;
  }

  send(order: Order): void {
    if (this.#child.connected) this.#child.send(order, () => {});
  }

  /** The next news, which must be of one of these kinds. */
  async expect<K extends Kind>(...kinds: K[]): Promise<Extract<News, { news: K }>> {
    const next = await this.next();
    if (next === undefined) throw this.#gone!;
    if (kinds.includes(next.news as K)) return next as Extract<News, { news: K }>;
    throw new Error(`${kinds.join(' or ')}: the library's process said ${JSON.stringify(next)}`);
  }

  /** The next news, or undefined when it is gone. */
  async next(): Promise<News | undefined> {
    while (this.#news.length === 0 && this.#gone === undefined) {
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
    }
    return this.#news.shift();
  }

  async write(offset: number, length: number, generation: number): Promise<number> {
    return (await this.#request({ order: 'write', offset, length, generation })).ms;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const { data } = await this.#request({ order: 'read', offset, length });
    return Buffer.from(data!);
  }

  async flush(): Promise<void> {
    await this.#request({ order: 'flush' });
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  /** Ends it in order; killed where it does not end. */
  async stop(): Promise<void> {
    this.send({ order: 'exit' });
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 15_000);
    await this.#exited;
    clearTimeout(late);
  }

  #request(order: Request): Promise<Extract<News, { news: 'done' }>> {
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      if (this.#gone !== undefined) return reject(this.#gone);
      this.#requests.set(id, { resolve, reject });
      this.send({ ...order, id });
    });
  }

  #take(news: News): void {
    const id = 'id' in news ? news.id : undefined;
    const waiting = id === undefined ? undefined : this.#requests.get(id);
    if (id === undefined || waiting === undefined) {
      this.#news.push(news);
      this.#look();
      return;
    }
    this.#requests.delete(id);
    if (news.news === 'done') waiting.resolve(news);
    else waiting.reject(new Error((news as Extract<News, { news: 'failed' }>).message));
  }
}
