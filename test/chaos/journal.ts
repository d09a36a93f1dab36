/**
 * What writers asked for and what they were answered, line by line in a file:
 * it outlives whoever is killed. The number of a line is its time.
 *
 *   begin WRITER NUMBER KIND OFFSET LENGTH GENERATION
 *   done WRITER NUMBER      failed WRITER NUMBER
 *   go                      started
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';

export type Kind = 'write' | 'zero' | 'discard' | 'flush' | 'read';

export interface Request {
  writer: number;
  /** Of this writer, from 0 on. */
  number: number;
  kind: Kind;
  offset: number;
  length: number;
  /** What it writes is `stamped()` with this. */
  generation: number;
}

/** A request and its end: `done`, or not known. */
export interface Told extends Request {
  begun: number;
  /** Infinity: never. */
  ended: number;
  done: boolean;
}

export class Journal {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'a');
  }

  begin({ writer, number, kind, offset, length, generation }: Request): void {
    writeSync(this.#fd, `begin ${writer} ${number} ${kind} ${offset} ${length} ${generation}\n`);
  }

  end({ writer, number }: Request, done: boolean): void {
    writeSync(this.#fd, `${done ? 'done' : 'failed'} ${writer} ${number}\n`);
  }

  /** The backup is about to begin; its point in time is fixed. */
  mark(what: 'go' | 'started'): void {
    writeSync(this.#fd, `${what}\n`);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

export interface Story {
  /** By writer, in the order of their beginnings. */
  requests: Told[][];
  /** When the backup was about to begin, and when its point in time was fixed for certain; Infinity: never. */
  go: number;
  started: number;
}

/** Reads a journal, whose last line may be cut off. */
export function readJournal(path: string): Story {
  const story: Story = { requests: [], go: Number.POSITIVE_INFINITY, started: Number.POSITIVE_INFINITY };
  const lines = readFileSync(path, 'latin1').split('\n').slice(0, -1);
  for (const [time, line] of lines.entries()) {
    const [what, ...fields] = line.split(' ');
    const [writer, number] = [Number(fields[0]), Number(fields[1])];
    if (what === 'go' || what === 'started') {
      story[what] = time;
    } else if (what === 'begin') {
      const [kind, offset, length, generation] = fields.slice(2) as [Kind, string, string, string];
      story.requests[writer] ??= [];
      story.requests[writer].push({
        writer,
        number,
        kind,
        offset: Number(offset),
        length: Number(length),
        generation: Number(generation),
        begun: time,
        ended: Number.POSITIVE_INFINITY,
        done: false,
      });
    } else {
      const request = story.requests[writer]![number]!;
      request.ended = time;
      request.done = what === 'done';
    }
  }
  story.requests = Array.from(story.requests, (list) => list ?? []);
  return story;
}
