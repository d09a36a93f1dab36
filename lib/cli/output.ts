/**
 * Where the command line speaks: lines for people, or with `--json` one object
 * a line for programs. A reader that went away (EPIPE) ends the speaking, never
 * the work.
 */
import { errnoName, SnapbakError } from '../errors.js';
import { EXIT, exitStatusOf } from './exit-status.js';

/** The part of a stream that is needed here. */
export interface Sink {
  write(text: string): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  isTTY?: boolean;
}

export class Output {
  readonly #out: Sink;
  readonly #err: Sink;
  readonly #gone = new Set<Sink>();

  constructor(out: Sink = process.stdout, err: Sink = process.stderr) {
    this.#out = out;
    this.#err = err;
    for (const sink of [out, err]) {
      sink.on('error', () => this.#gone.add(sink)); // EPIPE, or a full disk under a log
    }
  }

  /** Progress may be drawn over itself. */
  get isTerminal(): boolean {
    return this.#err.isTTY === true;
  }

  /** A line on standard output. */
  line(text = ''): void {
    this.#write(this.#out, `${text}\n`);
  }

  /** A line on standard error. */
  warn(text: string): void {
    this.#write(this.#err, `${text}\n`);
  }

  /** One JSON object on a line of standard output. */
  event(event: { event: string; [field: string]: unknown } | object): void {
    this.#write(this.#out, `${JSON.stringify(event)}\n`);
  }

  raw(text: string): void {
    this.#write(this.#out, text);
  }

  rawError(text: string): void {
    this.#write(this.#err, text);
  }

  /** What went wrong, for people in two lines, or as an `error` event. */
  error(error: unknown, json: boolean): void {
    const { code, message, errno, path } = described(error);
    if (json) {
      this.event({
        event: 'error',
        code,
        message,
        ...(errno === undefined ? {} : { errno, errnoName: errnoName(errno) }),
        ...(path === undefined ? {} : { path }),
      });
      return;
    }
    this.warn(`snapbak: ${message}`);
    if (process.env.SNAPBAK_DEBUG && error instanceof Error) this.warn(error.stack ?? '');
  }

  #write(sink: Sink, text: string): void {
    if (!this.#gone.has(sink)) sink.write(text);
  }
}

function described(error: unknown): { code: string; message: string; errno?: number; path?: string } {
  if (SnapbakError.is(error)) {
    const { code, message, errno, path } = error;
    return {
      code,
      message,
      ...(errno === undefined ? {} : { errno }),
      ...(path === undefined ? {} : { path }),
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  if (exitStatusOf(error) === EXIT.usage) return { code: 'usage', message: message.replace(/^error: /, '') };
  return { code: (error as { code?: string } | null)?.code ?? 'ERR_SNAPBAK_IO', message };
}
