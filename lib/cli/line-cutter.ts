/**
 * What a program says, a line at a time. Whoever ends no line must not fill our
 * memory, and what is no text must not get into messages.
 */

/** NUL ends a string for the system, which takes none in an argument or an environment. */
export function withoutNul(text: string): string {
  return text.replaceAll('\0', '\uFFFD');
}

/** Of a long line its beginning is kept, and nothing else of it is. */
export class LineCutter {
  readonly #max: number;
  readonly #take: (line: string) => void;
  /** The line so far; one character more than what is kept says that there is more. */
  #line = '';
  /** The last piece ended with a carriage return: a line feed that follows ends no further line. */
  #returned = false;

  /** @param max characters of a line that are kept */
  constructor(max: number, take: (line: string) => void) {
    this.#max = max;
    this.#take = take;
  }

  /** The next piece of it, cut anywhere. */
  push(text: string): void {
    const rest = this.#returned && text.startsWith('\n') ? text.slice(1) : text;
    this.#returned = text.endsWith('\r');
    for (const [i, part] of rest.split(/\r\n|\n|\r/).entries()) {
      if (i > 0) this.#tell();
      this.#line += part.slice(0, this.#max + 1 - this.#line.length);
    }
  }

  /** Nothing more comes; what is left is a line, too. */
  end(): void {
    if (this.#line !== '') this.#tell();
  }

  #tell(): void {
    const line = withoutNul(this.#line);
    this.#line = '';
    this.#take(line.length > this.#max ? `${line.slice(0, this.#max)}…` : line);
  }
}
