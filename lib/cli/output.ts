/**
 * Where the command line speaks: lines for people, or with `--json` one object
 * a line for programs. A reader that went away (EPIPE) ends the speaking, never
 * the work.
 */
import { errnoName, SnapbakError } from '../errors.js';
import { EXIT, exitStatusOf } from './exit-status.js';

/** What a terminal obeys instead of showing: control characters but tab and line feed, and changes of direction. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
const COMMANDS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text of any source as a terminal may show it. Names and messages come from
 * manifests, drivers and programs; they must not move the cursor, paint over
 * what is above, or type.
 */
function shown(text: string): string {
  return text.replace(COMMANDS, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

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

  /** Lines on standard output may be drawn over. */
  get drawsLines(): boolean {
    return this.#out.isTTY === true;
  }

  /** A line on standard output. */
  line(text = ''): void {
    this.#write(this.#out, `${shown(text)}\n`);
  }

  /** A line on standard error. */
  warn(text: string): void {
    this.#write(this.#err, `${shown(text)}\n`);
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
