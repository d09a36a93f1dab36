/**
 * The process that the library lives in, session after session until it is
 * killed. By messages from its parent: runs a session, itself or in a worker,
 * ends that worker, exits, or makes one system call, by which what is to
 * befall it does.
 */
import { readFileSync, readSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { openFiles } from '../helpers/processes.js';
import { type LibraryReport, type Places, runLibrary } from './library.js';
import type { Plan } from './plan.js';

export type Order =
  | { order: 'run'; plan: Plan; places: Places; inWorker: boolean }
  | { order: 'end-worker' | 'exit' | 'touch' | 'measure' };

export type News =
  | { news: 'ready' | 'started' }
  | { news: 'ended'; report: LibraryReport }
  | { news: 'failed'; message: string }
  | { news: 'measured'; rss: number; files: string[] };

interface Work {
  plan: Plan;
  places: Places;
}

// a worker of Node 20 does not take over the TypeScript loader of its parent
const SELF = JSON.stringify(import.meta.url);
const WORKER = `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then(({ tsImport }) => tsImport(${SELF}, ${SELF}));`;

/** Runs a session and tells its news. */
async function work({ plan, places }: Work, tell: (news: News) => void): Promise<void> {
  const before = places.before === undefined ? undefined : readFileSync(places.before);
  try {
    const report = await runLibrary(plan, places, before, () => tell({ news: 'started' }));
    tell({ news: 'ended', report });
  } catch (error) {
    tell({ news: 'failed', message: (error as Error)?.stack ?? String(error) });
  }
}

function listen(): void {
  const tell = (news: News) => process.send!(news);
  let worker: Worker | undefined;
  const orders = async (order: Order) => {
    switch (order.order) {
      case 'run':
        if (!order.inWorker) return await work(order, tell);
        worker = new Worker(WORKER, { eval: true, workerData: { plan: order.plan, places: order.places } });
        worker.on('message', tell);
        worker.on('error', (error) => tell({ news: 'failed', message: `in the worker: ${error.stack}` }));
        return;
      case 'end-worker':
        await worker?.terminate();
        worker = undefined;
        return tell({ news: 'ready' });
      case 'touch':
        readSync(0, Buffer.alloc(1), 0, 1, 0);
        return;
      case 'measure':
        (globalThis as { gc?: () => void }).gc?.();
        return tell({ news: 'measured', rss: process.memoryUsage.rss(), files: openFiles(process.pid) });
      case 'exit':
        return process.exit(0);
    }
  };
  process.on('message', (order: Order) => void orders(order));
  process.on('disconnect', () => process.exit(0));
  tell({ news: 'ready' });
}

if (isMainThread) listen();
else await work(workerData as Work, (news) => parentPort!.postMessage(news));
