/**
 * The library's side of a session: opens the origin, backs it up as the plan
 * says, does what it is told to meanwhile, and tells how it ended. With the
 * embedded driver the writers are in this process, too.
 */
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Backup,
  BlockList,
  type Container,
  deviceContainer,
  deviceTarget,
  directoryTarget,
  type EmbeddedOrigin,
  fileContainer,
  memoryContainer,
  type Origin,
  openEmbedded,
  openOrigin,
  type ResizableContainer,
  SnapbakError,
  startBackup,
} from '../../lib/index.js';
import { Journal } from './journal.js';
import { contentOf } from './judge.js';
import type { Action, Plan } from './plan.js';
import { scriptTarget } from './script-target.js';
import { type WriterReport, Writers } from './writer.js';

/** Where everything of a session is. */
export interface Places {
  folder: string;
  /** The image, or the device. */
  origin: string;
  /** The origin's content before, if it is not `contentOf(plan)`. */
  before?: string;
  journal: string;
  control: string;
  /** The backup's directory. */
  backup: string;
  targetDevice?: string;
  tierDevice?: string;
}

/** How a session ended, as the library tells. */
export interface LibraryReport {
  /** `complete`, `complete-with-invalid-blocks`, the code of an error, or what is no error of ours. */
  end: string;
  message: string;
  /** `startBackup` resolved. */
  started: boolean;
  captured: number;
  held: number;
  delayed: number;
  spilled: number;
  /** By the driver's own count, ms. */
  heldMaxMs: number;
  resizes: Record<string, number>;
  /** Of writers in this process. */
  writers?: WriterReport;
  /** The longest time in which this process could not look at the clock, ms. */
  lagMs: number;
}

/** Runs a session to its end; `onStarted` at the start instant. */
export async function runLibrary(
  plan: Plan,
  places: Places,
  before: Uint8Array | undefined,
  onStarted: () => void,
): Promise<LibraryReport> {
  const lag = monitorEventLoopDelay({ resolution: 5 });
  lag.enable();
  const embedded = plan.driver === 'embedded' ? await openEmbedded(places.origin) : undefined;
  const journal = embedded && new Journal(places.journal);
  const writers =
    embedded &&
    new Writers(plan, before ?? contentOf(plan), journal!, async () => {
      return isClosed(embedded) ? undefined : embedded;
    });
  writers?.start(before === undefined ? 0 : 1);
  await writers?.wrote(10);
  journal?.mark('go');
  const report = await backUp(plan, places, embedded, () => {
    journal?.mark('started');
    onStarted();
  });
  await writers?.wrote(5);
  await writers?.stop(20_000);
  journal?.close();
  await embedded?.close();
  lag.disable();
  return { ...report, lagMs: lag.max / 1e6, ...(writers && { writers: writers.report }) };
}

/** Origins that somebody closed. */
const closed = new WeakSet<Origin>();
const isClosed = (origin: EmbeddedOrigin) => closed.has(origin);

async function backUp(
  plan: Plan,
  places: Places,
  embedded: EmbeddedOrigin | undefined,
  onStarted: () => void,
): Promise<Omit<LibraryReport, 'lagMs'>> {
  const { container, tiers } = containerOf(plan, places);
  const resizes: Record<string, number> = {};
  let served: Origin | undefined;
  let backup: Backup | undefined;
  let actions: Promise<void>[] = [];
  const over = new AbortController();
  let end: string;
  let message = '';
  try {
    served = embedded === undefined ? await openOrigin(`unix:${places.control}`) : undefined;
    const origin = embedded ?? served!;
    backup = await startBackup({
      origin,
      target: await targetOf(plan, places),
      container,
      blockSize: plan.blockSize,
      blocks: plan.list ? listOf(plan.list) : 'all',
      ...(plan.watermarks && { watermarks: plan.watermarks }),
      ...(plan.rate && { rate: plan.rate }),
      onFull: plan.onFull,
      holdTimeout: plan.holdTimeout,
      stallTimeout: plan.stallTimeout,
      maxDelay: plan.maxDelay,
    });
    onStarted();
    const running = backup;
    const patience = setTimeout(() => void running.abort('out of patience'), plan.patienceMs);
    actions = plan.actions.map(async (action) => {
      await sleep(action.afterMs, undefined, { signal: over.signal }).catch(() => {});
      if (!over.signal.aborted) await act(action, plan, running, origin, tiers, resizes);
    });
    end = await backup.finished.then(({ state }) => state).finally(() => clearTimeout(patience));
  } catch (error) {
    end = SnapbakError.is(error) ? error.code : 'no SnapbakError';
    message = (SnapbakError.is(error) ? error.message : (error as Error)?.stack) ?? String(error);
  }
  over.abort();
  await Promise.all(actions);
  await served?.close();
  const stats = backup?.stats();
  return {
    end,
    message,
    started: backup !== undefined,
    captured: stats?.capturedBlocks ?? 0,
    held: stats?.writers.held ?? 0,
    delayed: stats?.writers.delayed ?? 0,
    spilled: stats?.spilledBlocks ?? 0,
    heldMaxMs: stats?.writers.heldMaxMs ?? 0,
    resizes,
  };
}

function listOf(list: readonly [number, number][]): BlockList {
  return BlockList.extents(list.map(([offset, length]) => ({ offset, length })));
}

function containerOf(
  { slots, blockSize, tiers }: Plan,
  { folder, tierDevice }: Places,
): { container: Container[]; tiers: ResizableContainer[] } {
  const files = tiers.map((blocks, i) => fileContainer(join(folder, `tier-${i}`), blocks * blockSize));
  const device = tierDevice === undefined ? [] : [deviceContainer(tierDevice)];
  return { container: [memoryContainer(slots * blockSize), ...device, ...files], tiers: files };
}

async function targetOf(plan: Plan, { backup, targetDevice }: Places) {
  if (plan.target.kind === 'script') return await scriptTarget(backup, plan);
  return targetDevice === undefined
    ? directoryTarget(backup)
    : deviceTarget(targetDevice, { directory: backup });
}

async function act(
  action: Action,
  plan: Plan,
  backup: Backup,
  origin: Origin,
  tiers: readonly ResizableContainer[],
  resizes: Record<string, number>,
): Promise<void> {
  switch (action.do) {
    case 'prioritize':
      return backup.prioritize([{ offset: action.offset, length: action.length }]);
    case 'pause':
      backup.pause();
      await sleep(action.forMs);
      return backup.resume();
    case 'rate':
      return backup.setRate(action.rate);
    case 'resize': {
      const tier = tiers[action.blocks % tiers.length];
      const end = await tier!.resize(action.blocks * plan.blockSize).then(
        () => 'resized',
        (error: unknown) => (SnapbakError.is(error) ? error.code : `no SnapbakError: ${error}`),
      );
      resizes[end] = (resizes[end] ?? 0) + 1;
      return;
    }
    case 'abort':
      return await backup.abort('chaos');
    case 'close-origin':
      closed.add(origin);
      return await origin.close();
  }
}
