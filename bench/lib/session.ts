/** The parent's side of `bench/hold-session.ts`: a session of the library in a process of its own. */
import { fileURLToPath } from 'node:url';
import type { HoldOptions, Order, Picture, Report } from '../hold-session.js';
import { Child } from './processes.js';

const SCRIPT = fileURLToPath(new URL('../hold-session.ts', import.meta.url));

export class Session {
  readonly #child: Child;
  readonly #reports: Report[] = [];
  /** Who waits for a report; several may, for different ones. */
  #waiting: (() => void)[] = [];
  #finished: Promise<Picture> | undefined;

  private constructor(child: Child) {
    this.#child = child;
    child.process.on('message', (report: Report) => {
      this.#reports.push(report);
      this.#wakeAll();
    });
    void child.exited.then(() => this.#wakeAll());
  }

  /** Resolves when the point in time is fixed. */
  static async start(options: HoldOptions, cpu?: number): Promise<Session> {
    const command = [process.execPath, '--expose-gc', '--import', 'tsx', SCRIPT, JSON.stringify(options)];
    const session = new Session(
      new Child('hold-session', command, cpu === undefined ? { ipc: true } : { ipc: true, cpu }),
    );
    await session.#next('started');
    return session;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** The library gets no CPU from here on: what is captured stays in its slot. */
  suspend(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  /** Nothing if it has ended meanwhile, as it does by itself after the backup. */
  wake(): void {
    this.#child.process.kill('SIGCONT');
  }

  /** Lets the sweep go. */
  resume(): void {
    this.#send('resume');
  }

  /** Counters and memory as of now. */
  async picture(): Promise<Picture> {
    this.#send('picture');
    return (await this.#next('picture')).picture;
  }

  /** The whole backup is done; counters, times, event-loop delay. */
  finished(): Promise<Picture> {
    this.#finished ??= this.#next('finished').then((report) => report.picture);
    return this.#finished;
  }

  /** Ends the process, and with it the session if there still is one. */
  async stop(): Promise<void> {
    if (this.#child.running) this.wake();
    await this.#child.stop();
  }

  #send(order: Order): void {
    this.#child.process.send(order);
  }

  async #next<Kind extends Report['kind']>(kind: Kind): Promise<Extract<Report, { kind: Kind }>> {
    for (;;) {
      const failed = this.#reports.find((report) => report.kind === 'failed');
      if (failed !== undefined) throw new Error(`session: ${failed.message}`);
      const index = this.#reports.findIndex((report) => report.kind === kind);
      if (index >= 0) return this.#reports.splice(index, 1)[0] as Extract<Report, { kind: Kind }>;
      if (!this.#child.running) {
        await this.#child.exited;
        throw new Error(`session ended before it reported "${kind}": ${this.#child.said}`);
      }
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
