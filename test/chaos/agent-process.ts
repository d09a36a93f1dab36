/** The parent's end of `agent.ts`: a process with the library in it, whose system calls can be spoilt. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { News, Order } from './agent.js';
import { FaultTable } from './fault-table.js';

const LOADER = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
const SCRIPT = fileURLToPath(new URL('agent.ts', import.meta.url));

export class Agent {
  readonly table: FaultTable;
  /** Its end: an exit status or the name of a signal. */
  readonly exited: Promise<number | NodeJS.Signals>;
  readonly #child: ChildProcess;
  readonly #news: News[] = [];
  #look = () => {};
  #said = '';
  #gone = false;

  /** @param temporary where it puts temporary files */
  constructor(library: string, folder: string, name: string, temporary: string) {
    this.table = new FaultTable(join(folder, `${name}.faults`));
    this.#child = spawn(process.execPath, ['--expose-gc', '--import', LOADER, SCRIPT], {
      env: {
        ...process.env,
        ...this.table.environment(library),
        TMPDIR: temporary,
        // what threads keep for themselves would hide what is lost
        MALLOC_ARENA_MAX: '2',
      },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-16_384);
    });
    this.#child.on('message', (news: News) => {
      this.#news.push(news);
      this.#look();
    });
    this.exited = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (code, signal) => {
        this.#gone = true;
        resolve(signal ?? code ?? -1);
        this.#look();
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get running(): boolean {
    return !this.#gone;
  }

  /** What it said on standard error. */
  get said(): string {
    return this.#said;
  }

  /** Lost, if it is gone. */
  send(order: Order): void {
    if (this.#child.connected) this.#child.send(order, () => {});
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Its next news, or undefined when it is gone. */
  async next(): Promise<News | undefined> {
    while (this.#news.length === 0 && !this.#gone) {
      await new Promise<void>((resolve) => {
        this.#look = resolve;
      });
    }
    return this.#news.shift();
  }

  /** Ends it in order. */
  async stop(): Promise<void> {
    this.send({ order: 'exit' });
    const late = setTimeout(() => this.kill('SIGKILL'), 10_000);
    await this.exited;
    clearTimeout(late);
    this.table.close();
  }
}
