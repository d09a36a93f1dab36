/**
 * An application of the soak: one write after the other, each of whole cells
 * that say who wrote them when. It remembers enough to tell, of any image,
 * whether that is its part of the disk at an instant: what was written when the
 * backup was asked for, and each write from then until the point in time was
 * fixed. So nobody has to stand still for a backup to be judged.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { setTimeout as sleep, setImmediate as yieldToOthers } from 'node:timers/promises';
import { seeded, stamped } from '../helpers/images.js';

/** The unit of what is written and judged, bytes. */
export const CELL = 4096;

/** Where writes go: an export, or an origin in another process. */
export interface Disk {
  /** Stamped bytes of that generation. Resolves with the milliseconds that it took. */
  write(offset: number, length: number, generation: number): Promise<number>;
  read(offset: number, length: number): Promise<Buffer>;
  flush(): Promise<void>;
}

/**
 * `first-touch`: a cell in each block, as fast as it goes, once a session;
 * `safe`: the same few cells over and over; `mixed`: any cells, and reads of
 * what it wrote.
 */
export type WriterKind = 'first-touch' | 'safe' | 'mixed';

/** Blocks of 64 KiB: what a first touch of each costs no matter how large blocks are. */
const TOUCH_STEP = 65_536;

interface Write {
  generation: number;
  offset: number;
  length: number;
  begun: number;
  ended: number;
}

/** When an instant may have been, of `performance.now()`. */
export interface Span {
  from: number;
  to: number;
}

export class Writer {
  /** Nanoseconds of writes since the last reset. */
  readonly latency: RecordableHistogram = createHistogram();
  writes = 0;
  readonly kind: WriterKind;
  readonly #disk: Disk;
  readonly #offset: number;
  readonly #draw: (below: number) => number;
  /** Of each cell, what was acknowledged last; the image was made with generation 1. */
  readonly #cells: Uint32Array;
  #generation = 1;
  #underWay: Write | undefined;
  /** The cells when a backup was asked for, and the writes since. */
  #before: Uint32Array = new Uint32Array();
  #asked = 0;
  #since: Write[] | undefined;
  #untouched: number[] = [];
  #stopping = false;
  #ended: Promise<void>;

  constructor(kind: WriterKind, disk: Disk, offset: number, length: number, seed: number) {
    this.kind = kind;
    this.#disk = disk;
    this.#offset = offset;
    this.#draw = seeded(seed);
    this.#cells = new Uint32Array(length / CELL).fill(1);
    this.#ended = this.#run();
    this.#ended.catch(() => {}); // told by stop()
  }

  /** A backup is about to be asked for. */
  mark(): void {
    this.#before = this.#cells.slice();
    this.#asked = performance.now();
    this.#since = this.#underWay === undefined ? [] : [this.#underWay];
    const count = (this.#cells.length * CELL) / TOUCH_STEP;
    this.#untouched = Array.from({ length: count }, (_, i) => i);
  }

  /** Its point in time is fixed: gives what is to be told from its image, and forgets it. */
  fixed(): Instant {
    const since = this.#since ?? [];
    this.#since = undefined;
    return new Instant(this.#offset, this.#before, this.#asked, since);
  }

  /** Ends it; rejects if a write or read failed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ended;
  }

  /** What is wrong with the disk itself, after all: a write that was acknowledged must be there. */
  async judgeDisk(read: Disk['read']): Promise<string | undefined> {
    const { offset = 0, length = 0 } = this.#underWay ?? {};
    for (let cell = 0; cell < this.#cells.length; cell++) {
      const at = this.#offset + cell * CELL;
      if (at >= offset && at < offset + length) continue; // nobody was told how that one ended
      if (!(await read(at, CELL)).equals(stamped(at, CELL, this.#cells[cell]!))) {
        return `the origin has lost the ${this.#cells[cell]}th write of the ${this.kind} writer at ${at}`;
      }
    }
    return undefined;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const pause = await this.#step();
      if (pause > 0) await sleep(pause);
    }
  }

  /** One request; gives the milliseconds to wait after it. */
  async #step(): Promise<number> {
    const cells = this.#cells.length;
    if (this.kind === 'safe') {
      await this.#write(this.#draw(4), 1);
      return 2;
    }
    if (this.kind === 'first-touch') {
      const [block] = this.#untouched.splice(this.#draw(this.#untouched.length || 1), 1);
      const perBlock = TOUCH_STEP / CELL;
      await this.#write(block === undefined ? this.#draw(cells) : block * perBlock + this.#draw(perBlock), 1);
      return block === undefined ? 10 : 0;
    }
    const cell = this.#draw(cells);
    const count = Math.min(cells - cell, 1 + this.#draw(16));
    if (this.#draw(8) > 0) await this.#write(cell, count);
    else await this.#readBack(cell);
    if (this.#draw(200) === 0) await this.#disk.flush();
    return this.#draw(5);
  }

  async #write(cell: number, count: number): Promise<void> {
    const generation = ++this.#generation;
    const offset = this.#offset + cell * CELL;
    const write = { generation, offset, length: count * CELL, begun: performance.now(), ended: Infinity };
    this.#underWay = write;
    this.#since?.push(write);
    const ms = await this.#disk.write(offset, write.length, generation);
    write.ended = performance.now();
    this.#cells.fill(generation, cell, cell + count);
    this.#underWay = undefined;
    this.latency.record(Math.max(1, Math.round(ms * 1e6)));
    this.writes += 1;
  }

  async #readBack(cell: number): Promise<void> {
    const offset = this.#offset + cell * CELL;
    const data = await this.#disk.read(offset, CELL);
    if (!data.equals(stamped(offset, CELL, this.#cells[cell]!))) {
      throw new Error(`the ${this.kind} writer did not read what it had written at ${offset}`);
    }
  }
}

/** A writer's part of the disk between two moments. */
export class Instant {
  readonly #offset: number;
  readonly #cells: Uint32Array;
  readonly #asked: number;
  readonly #writes: readonly Write[];

  constructor(offset: number, cells: Uint32Array, asked: number, writes: readonly Write[]) {
    this.#offset = offset;
    this.#cells = cells;
    this.#asked = asked;
    this.#writes = writes;
  }

  /** When the image may have been taken; or what is wrong with it: then it is of no instant at all. */
  async judge(read: (offset: number, length: number) => Promise<Buffer>): Promise<Span | string> {
    // the last write that is in the image; each before it must be there as well
    let last = -1;
    for (const [i, { offset, generation }] of this.#writes.entries()) {
      if ((await read(offset, CELL)).readUInt32LE(8) === generation) last = i;
    }
    for (const { offset, length, generation } of this.#writes.slice(0, last + 1)) {
      const cell = (offset - this.#offset) / CELL;
      this.#cells.fill(generation, cell, cell + length / CELL);
    }
    const step = 64;
    for (let cell = 0; cell < this.#cells.length; cell += step) {
      const data = await read(this.#offset + cell * CELL, Math.min(step, this.#cells.length - cell) * CELL);
      for (let at = 0; at < data.length; at += CELL) {
        const offset = this.#offset + cell * CELL + at;
        const generation = this.#cells[cell + at / CELL]!;
        if (data.subarray(at, at + CELL).equals(stamped(offset, CELL, generation))) continue;
        const found = data.readUInt32LE(at + 8);
        return `at ${offset} there is generation ${found} instead of ${generation}`;
      }
      await yieldToOthers();
    }
    return {
      from: this.#writes[last]?.begun ?? this.#asked,
      to: this.#writes[last + 1]?.ended ?? Number.POSITIVE_INFINITY,
    };
  }
}
