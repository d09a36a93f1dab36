/**
 * A program that ends in the middle of a backup, for 04-lifetimes: as a worker
 * it starts one on IMAGE, with writes under way and a slow target written in
 * JavaScript, says `started` and never comes to an end by itself; as a program
 * it terminates such workers, or exits itself.
 *   short-lived.ts IMAGE worker|exit
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { openEmbedded, startBackup } from '../../lib/index.js';

const WORKERS = 4;

// a worker of Node 20 does not take over the TypeScript loader of its parent
const SELF = JSON.stringify(import.meta.url);
const ENTRY = `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then(({ tsImport }) => tsImport(${SELF}, ${SELF}));`;

async function beginBackup(image: string): Promise<void> {
  const origin = await openEmbedded(image);
  const slow = { write: () => sleep(20), flush: async () => {}, close: async () => {} };
  const backup = await startBackup({ origin, target: slow });
  for (let i = 0; i < 32; i++) origin.write(i * 200_000, Buffer.from('late')).catch(() => {});
  backup.finished.catch(() => {});
}

async function main(image: string, how: string): Promise<void> {
  if (how === 'exit') {
    await beginBackup(image);
    await sleep(50);
    process.exit(0);
  }
  for (let i = 0; i < WORKERS; i++) {
    const worker = new Worker(ENTRY, { eval: true, workerData: image });
    await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await sleep(i * 15); // at different moments of the copy
    await worker.terminate();
  }
}

if (isMainThread) {
  await main(process.argv[2]!, process.argv[3]!);
} else {
  await beginBackup(workerData as string);
  parentPort!.postMessage('started');
}
