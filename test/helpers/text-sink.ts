/** A stream that keeps what was written to it. */
import type { Sink } from '../../lib/cli/output.js';

export class TextSink implements Sink {
  text = '';
  isTTY = false;
  #onError: ((error: Error) => void)[] = [];

  write(text: string): void {
    this.text += text;
  }

  on(_event: 'error', listener: (error: Error) => void): void {
    this.#onError.push(listener);
  }

  /** As a pipe whose reader went away. */
  fail(error: Error): void {
    for (const listener of this.#onError) listener(error);
  }

  get lines(): string[] {
    return this.text.split('\n').filter((line) => line !== '');
  }

  get events(): Record<string, unknown>[] {
    return this.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}
