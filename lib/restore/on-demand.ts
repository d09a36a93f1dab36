/**
 * A restore whose destination can be used at once: NBD clients read and write
 * it while the backup comes, what they ask for first. It goes on after a crash
 * where it was.
 */
import { binding, type NativeBinding } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import { type Export, type ExportPrograms, prepareExport, startExport } from '../export/export.js';
import type { Host } from '../host.js';
import type { ServerExit } from '../serve/nbdkit-process.js';
import { checkChecksums, checkChecksumsSize, openBackup } from './backup-files.js';
import { LazyRun, type OnDemandResult, type OnDemandStats } from './lazy-run.js';
import { checkedOptions, type RestoreOnDemandOptions } from './on-demand-options.js';
import { openPlace, type Place } from './on-demand-place.js';
import { throwIfAborted } from './replay.js';
import { bootId } from './restore-state.js';

export type { OnDemandResult, OnDemandStats } from './lazy-run.js';
export type { RestoreOnDemandOptions } from './on-demand-options.js';

/** A restore that runs, and its export. */
export interface RestoreOnDemand {
  readonly socket: string;
  /** How NBD clients name it. */
  readonly uri: string;
  /** Bytes. */
  readonly size: number;
  /** nbdkit's process. */
  readonly pid: number;
  /** The state file. */
  readonly state: string;
  /** It goes on with one that was interrupted. */
  readonly resumed: boolean;
  /**
   * Everything is there, durably; the export goes on. Rejects with
   * `ERR_SNAPBAK_CORRUPT` if blocks of the backup are damaged or its checksums
   * are (then the export ends), `ERR_SNAPBAK_RESTORE` if the destination fails,
   * `ERR_SNAPBAK_ABORTED` when it is stopped before.
   */
  readonly restored: Promise<OnDemandResult>;
  /** Resolves when nbdkit has ended, for whatever reason; never rejects. */
  readonly exited: Promise<ServerExit>;
  stats(): OnDemandStats;
  /** Ends the export; what is there is durable then. The state file goes if everything is there. Idempotent. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Restores to `to`, and resolves when clients can use it: as soon as nbdkit
 * runs, whatever the size.
 *
 * @throws TypeError, RangeError for arguments
 * @throws SnapbakError as `restore` does; `ERR_SNAPBAK_RESTORE` if the state file is of
 *   another restore; `ERR_SNAPBAK_MISSING` without nbdkit or its plugin
 * @example
 * await using disk = await restoreOnDemand({ backup: '/backup/monday', to: '/dev/vg0/new', socket: '/run/new.sock' });
 * console.log(disk.uri); // start the virtual machine from it now
 * await disk.restored;
 */
export async function restoreOnDemand(
  options: RestoreOnDemandOptions,
  parts: { native?: () => NativeBinding; host?: Host } & ExportPrograms = {},
): Promise<RestoreOnDemand> {
  const { backup, disk, imageDevice, signal, onMessage, ...rest } = checkedOptions(options);
  throwIfAborted(signal, 'restore');
  const native = (parts.native ?? binding)();
  const files = await openBackup(backup, native, imageDevice, disk);
  const opened: { close(): Promise<unknown> }[] = [files];
  const closeAll = () => closeEach(opened.splice(0).reverse());
  let shown: Export | undefined;
  try {
    // whatever may be missing for the export, too
    const programs = await prepareExport(rest.socket, parts);
    // before anything is overwritten; their digest takes longer than a client wants to wait
    if (rest.verify) await checkChecksumsSize(backup, files);
    const place = await openPlace(rest, files, native, parts.host);
    const undo = async () => (shown === undefined ? place.undo() : undefined);
    opened.push(place.destination, place.state.file, { close: undo });
    throwIfAborted(signal, 'restore');
    const { manifest } = files;
    const lists = [manifest.blocks, manifest.invalidBlocks].map((pairs) =>
      BlockList.extents(pairs.map(([offset, length]) => ({ offset, length }))),
    );
    const run = await LazyRun.open(native, {
      imageFd: files.image.fd,
      checksumsFd: files.checksums.fd,
      destinationFd: place.destination.fd,
      stateFd: place.state.file.fd,
      boot: await bootId(),
      imageSize: manifest.size,
      blockSize: manifest.blockSize,
      threads: THREADS,
      check: rest.verify,
      fresh: place.destination.fresh && !place.resumed,
      extents: lists[0]!.subtract(lists[1]!).flat(),
      invalidBlocks: lists[1]!.count(manifest.blockSize),
      imagePath: files.imagePath,
      checksumsGood: (stop) => (rest.verify ? checkChecksums(backup, files, stop) : Promise.resolve()),
      onProgress: rest.onProgress,
      onBadBlock: rest.onBadBlock,
    });
    opened.push(run);
    shown = await startExport(
      {
        device: run.device,
        size: manifest.size,
        readOnly: false,
        socket: rest.socket,
        name: rest.to,
        onMessage,
        signal,
      },
      programs,
    );
    return running(shown, run, place, manifest.size, closeAll, signal);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

const THREADS = 2;

/** Closes all of them. Never throws: what matters was decided, and made durable, before. */
async function closeEach(parts: { close(): Promise<unknown> }[]): Promise<void> {
  for (const part of parts) {
    try {
      await part.close();
    } catch {
      // the others still have to be closed
    }
  }
}

function running(
  shown: Export,
  run: LazyRun,
  { state, resumed }: Place,
  size: number,
  closeAll: () => Promise<void>,
  signal: AbortSignal | undefined,
): RestoreOnDemand {
  let stopping: Promise<void> | undefined;
  const end = async () => {
    await shown.stop();
    try {
      await run.close();
      if (run.complete) await state.remove();
    } finally {
      await closeAll();
    }
  };
  const stop = () => {
    stopping ??= end();
    return stopping;
  };
  // without nbdkit nobody is served; without its checksums the backup says nothing
  void shown.exited.then(() => stop().catch(() => {}));
  void run.untrusted.then(() => stop().catch(() => {}));
  if (signal?.aborted) void stop().catch(() => {});
  const { socket, uri, pid, exited } = shown;
  const { restored } = run;
  return {
    socket,
    uri,
    size,
    pid,
    state: state.path,
    resumed,
    restored,
    exited,
    stats: () => run.stats(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
