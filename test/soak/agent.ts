/**
 * The process that the library lives in: session after session on one origin,
 * by orders of its parent. With the embedded driver it is the application, too,
 * and makes the writes that it is told to.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Backup,
  type Container,
  type CustomTarget,
  deviceContainer,
  directoryTarget,
  type EmbeddedOrigin,
  fileContainer,
  memoryContainer,
  openEmbedded,
  openOrigin,
  SnapbakError,
  startBackup,
  tieredContainer,
} from '../../lib/index.js';
import { stamped } from '../helpers/images.js';
import type { Plan } from './plan.js';

export type Order =
  /** `control`: of the user driver; else `image` is opened here. `device`: for containers, may be overwritten. */
  | { order: 'open'; image: string; control?: string; device: string; folder: string }
  | { order: 'run'; plan: Plan; directory: string }
  | { order: 'abort' | 'measure' | 'exit' }
  | { order: 'write'; id: number; offset: number; length: number; generation: number }
  | { order: 'read'; id: number; offset: number; length: number }
  | { order: 'flush'; id: number };

export type News =
  | { news: 'opened' | 'started' }
  | { news: 'ended'; state: string; code?: string; message?: string; figures: Figures }
  | { news: 'measured'; heap: number }
  | { news: 'done'; id: number; ms: number; data?: Buffer }
  | { news: 'failed'; id?: number; message: string };

/** What a session came to. */
export interface Figures {
  captured: number;
  spilled: number;
  delayed: number;
  held: number;
}

const FULL_SLOTS = 16;

function containerOf({ container, blockSize }: Plan, device: string, folder: string): Container {
  const memory = FULL_SLOTS * blockSize;
  const path = join(folder, 'container');
  switch (container) {
    case 'memory':
      return memoryContainer(4 * 2 ** 20);
    case 'full':
      return memoryContainer(memory);
    case 'file':
      return fileContainer(path, 8 * 2 ** 20, { memory });
    case 'device':
      return deviceContainer(device, { memory });
    case 'tiered':
      return tieredContainer([
        memoryContainer(memory),
        fileContainer(path, 16 * blockSize),
        deviceContainer(device),
      ]);
  }
}

/** Takes each write after the one before, and as long as its bytes take. */
async function slowTarget(path: string, bytesPerSecond: number): Promise<CustomTarget> {
  const file = await open(path, 'w');
  let free = performance.now();
  return {
    async write(offset, data) {
      free = Math.max(free, performance.now()) + (data.length / bytesPerSecond) * 1000;
      await sleep(free - performance.now());
      await file.write(data, 0, data.length, offset);
    },
    async flush() {},
    close: () => file.close(),
  };
}

class Agent {
  #origin: EmbeddedOrigin | Awaited<ReturnType<typeof openOrigin>> | undefined;
  #device = '';
  #folder = '';
  #backup: Backup | undefined;

  async take(order: Order): Promise<void> {
    switch (order.order) {
      case 'open':
        this.#device = order.device;
        this.#folder = order.folder;
        this.#origin =
          order.control === undefined
            ? await openEmbedded(order.image)
            : await openOrigin(`unix:${order.control}`);
        return tell({ news: 'opened' });
      case 'run':
        return await this.#run(order.plan, order.directory);
      case 'abort':
        return await this.#backup?.abort();
      case 'exit':
        await this.#origin?.close();
        return process.exit(0);
      case 'measure':
        // twice: what the first one frees may have been kept by a finalizer
        for (let i = 0; i < 2; i++) {
          (globalThis as { gc?: () => void }).gc?.();
          await sleep(0);
        }
        return tell({ news: 'measured', heap: process.memoryUsage().heapUsed });
      default:
        return await this.#request(order);
    }
  }

  async #run(plan: Plan, directory: string): Promise<void> {
    const { blockSize, rate, targetRate } = plan;
    const backup = await startBackup({
      origin: this.#origin!,
      target:
        targetRate === undefined
          ? directoryTarget(directory)
          : await slowTarget(`${directory}.img`, targetRate),
      container: containerOf(plan, this.#device, this.#folder),
      blockSize,
      rate,
    });
    this.#backup = backup;
    tell({ news: 'started' });
    const failure = await backup.finished.then(
      () => undefined,
      (error: unknown) => error,
    );
    this.#backup = undefined;
    const { capturedBlocks, spilledBlocks, writers } = backup.stats();
    tell({
      news: 'ended',
      state: backup.state,
      ...(failure === undefined ? {} : { message: String(failure) }),
      ...(SnapbakError.is(failure) ? { code: failure.code } : {}),
      figures: {
        captured: capturedBlocks,
        spilled: spilledBlocks,
        delayed: writers.delayed,
        held: writers.held,
      },
    });
  }

  async #request(order: Extract<Order, { id: number }>): Promise<void> {
    const { id } = order;
    const origin = this.#origin as EmbeddedOrigin;
    const begin = performance.now();
    let data: Buffer | undefined;
    try {
      if (order.order === 'read') data = await origin.read(order.offset, order.length);
      else if (order.order === 'flush') await origin.flush();
      else await origin.write(order.offset, stamped(order.offset, order.length, order.generation));
    } catch (error) {
      return tell({ news: 'failed', id, message: String(error) });
    }
    tell({ news: 'done', id, ms: performance.now() - begin, ...(data === undefined ? {} : { data }) });
  }
}

function tell(news: News): void {
  process.send?.(news);
}

const agent = new Agent();
process.on('message', (order: Order) => {
  agent.take(order).catch((error: unknown) => {
    tell({ news: 'failed', message: (error as Error)?.stack ?? String(error) });
  });
});
// the parent is gone: nobody wants a soak any more
process.on('disconnect', () => process.exit(0));
