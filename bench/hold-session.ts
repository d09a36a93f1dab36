/**
 * A backup session in a process of its own, as a program would run it, steered by its parent over IPC: to be
 * held open without a sweep, to sweep when told, or to run to its end. Measures its own event loop.
 *
 *     node --import tsx bench/hold-session.ts '{"control": …, "target": …, "slotBytes": …, "sweep": …}'
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CustomTarget,
  directoryTarget,
  memoryContainer,
  openOrigin,
  startBackup,
} from '../lib/index.js';

export interface HoldOptions {
  /** The control socket. */
  control: string;
  /** Directory of the backup; not there yet. */
  target: string;
  /** The library's default without it. */
  slotBytes?: number;
  blockSize: number;
  /** `now`: from the start on; `told`: at the order `resume`. */
  sweep: 'now' | 'told';
  /** Bytes a second, or as fast as it goes. */
  rate?: number;
  order?: 'ascending' | 'hot-first';
  latencyGoal?: 'none';
  /** The target takes so many bytes a second, keeps nothing, and is no directory. */
  targetRate?: number;
}

export type Order = 'resume' | 'picture';

/** What the session looks like at one moment. */
export interface Picture {
  /** Seconds since `startBackup` was called, and since the sweep was let go. */
  seconds: number;
  sweepSeconds: number;
  /** Event loop: time between two ticks of a 1 ms timer, milliseconds. */
  loop: { p50: number; p99: number; max: number };
  stats: unknown;
}

export type Report =
  | { kind: 'started' }
  | { kind: 'picture'; picture: Picture }
  | { kind: 'finished'; picture: Picture }
  | { kind: 'failed'; message: string };

function report(message: Report): void {
  process.send?.(message);
}

/** Takes each write after the one before, and as long as its bytes take. */
function slowTarget(bytesPerSecond: number): CustomTarget {
  let free = performance.now();
  return {
    async write(_offset, data) {
      free = Math.max(free, performance.now()) + (data.length / bytesPerSecond) * 1000;
      await sleep(free - performance.now());
    },
    async flush() {},
    async close() {},
  };
}

async function main(options: HoldOptions): Promise<void> {
  const loop = monitorEventLoopDelay({ resolution: 1 });
  const origin = await openOrigin(`unix:${options.control}`);
  const begin = performance.now();
  loop.enable();
  const backup = await startBackup({
    origin,
    target:
      options.targetRate === undefined ? directoryTarget(options.target) : slowTarget(options.targetRate),
    ...(options.slotBytes === undefined ? {} : { container: memoryContainer(options.slotBytes) }),
    blocks: 'all',
    blockSize: options.blockSize,
    holdTimeout: 600_000,
    ...(options.rate === undefined ? {} : { rate: options.rate }),
    ...(options.order === undefined ? {} : { order: options.order }),
    ...(options.latencyGoal === undefined ? {} : { latencyGoal: options.latencyGoal }),
  });
  if (options.sweep === 'told') backup.pause();
  let sweepBegin = performance.now();
  const picture = (): Picture => ({
    seconds: (performance.now() - begin) / 1000,
    sweepSeconds: (performance.now() - sweepBegin) / 1000,
    loop: {
      p50: loop.percentile(50) / 1e6,
      p99: loop.percentile(99) / 1e6,
      max: loop.max / 1e6,
    },
    stats: backup.stats(),
  });
  let aborted = false;
  process.on('message', (order: Order) => {
    if (order === 'resume') {
      sweepBegin = performance.now();
      backup.resume();
    } else {
      // what is garbage is not what the session needs
      globalThis.gc?.();
      report({ kind: 'picture', picture: picture() });
    }
  });
  // the parent is gone: nobody will read the figures
  process.on('disconnect', () => {
    aborted = true;
    void backup.abort();
  });
  report({ kind: 'started' });
  try {
    await backup.finished;
    report({ kind: 'finished', picture: picture() });
  } catch (error) {
    if (!aborted) throw error;
  } finally {
    loop.disable();
    process.removeAllListeners('message');
    process.removeAllListeners('disconnect');
  }
}

main(JSON.parse(process.argv[2] ?? '{}') as HoldOptions).catch((error: unknown) => {
  report({
    kind: 'failed',
    message: error instanceof Error ? (error.stack ?? error.message) : String(error),
  });
  process.exitCode = 1;
});
