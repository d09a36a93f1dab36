/**
 * An application that does not stop for a backup: it writes, overwrites,
 * appends to and removes files, each made durable by fsync, until it is told
 * to end.
 */
import { randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';

export class LiveWriter {
  /** Files made durable so far. */
  files = 0;
  /** Bytes made durable so far. */
  bytes = 0;
  /** The longest that one file took, open to fsync, in milliseconds. */
  slowestMs = 0;
  #folder: string;
  #names: number;
  #stopping = false;
  #ended: Promise<void>;
  #error: unknown;

  /** Writes to `names` files in `folder`, over and over. */
  constructor(folder: string, names = 64) {
    this.#folder = folder;
    this.#names = names;
    this.#ended = this.#write().catch((error: unknown) => {
      this.#error = error;
    });
  }

  async #write(): Promise<void> {
    for (let turn = 0; !this.#stopping; turn += 1) {
      const path = join(this.#folder, `live-${turn % this.#names}`);
      const data = randomBytes(4096 + ((turn * 7919) % 120_000));
      const begin = performance.now();
      if (turn % 7 === 6) await rm(path, { force: true });
      const file = await open(path, turn % 3 === 0 ? 'w' : 'a');
      try {
        await file.write(data);
        await file.sync();
      } finally {
        await file.close();
      }
      this.files += 1;
      this.bytes += data.length;
      this.slowestMs = Math.max(this.slowestMs, performance.now() - begin);
    }
  }

  /** Resolves once `count` more files were written; rejects when the writer failed. */
  async wrote(count: number, timeoutMs = 60_000): Promise<void> {
    const goal = this.files + count;
    const end = performance.now() + timeoutMs;
    while (this.files < goal) {
      if (this.#error !== undefined) throw this.#error;
      if (performance.now() > end) throw new Error(`the writer stands still at ${this.files} files`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends the writer after the file it is at, and throws what went wrong with it. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#ended;
    if (this.#error !== undefined) throw this.#error;
  }
}
