/**
 * A restore whose destination can be used at once: NBD clients read and write
 * it while the backup comes, what they ask for first. It goes on after a crash
 * where it was.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { expectOptions, expectType } from '../arguments.js';
import { binding, type NativeBinding } from '../binding.js';
import { BlockList } from '../blocks/block-list.js';
import { SnapbakError } from '../errors.js';
import { type Export, type ExportPrograms, startExport } from '../export/export.js';
import type { Extent } from '../extent.js';
import type { Host } from '../host.js';
import type { ServerExit } from '../serve/nbdkit-process.js';
import { checkedPath, checkedSocket } from '../serve/paths.js';
import { type BackupFiles, checkChecksums, checkChecksumsSize, openBackup } from './backup-files.js';
import { type Destination, openDestination, reopenDestination } from './destination.js';
import { LazyRun, type OnDemandResult, type OnDemandStats } from './lazy-run.js';
import { throwIfAborted } from './replay.js';
import {
  bootId,
  defaultStatePath,
  destinationIdentity,
  makeState,
  openState,
  type RestoreStateFile,
  restoreJob,
} from './restore-state.js';
import { checkCommon } from './verify.js';

export type { OnDemandResult, OnDemandStats } from './lazy-run.js';

export interface RestoreOnDemandOptions {
  /** Path of the backup's directory. */
  backup: string;
  /** As in `restore`: a new file, or a block device at least as large as the origin was. */
  to: string;
  /** Unix socket for NBD clients, made with mode 0600; at most 107 bytes. */
  socket: string;
  /**
   * Where it is kept which blocks are there. Default: beside a file, with
   * `.restore-state` behind its name; for a device in `/var/lib/snapbak/restore`
   */
  state?: string | undefined;
  /** True: only go on with an interrupted restore. Default: go on if there is one, else begin */
  resume?: boolean | undefined;
  /** As in `restore`; a restore that goes on never overwrites what is there. */
  force?: boolean | undefined;
  /** Compare each block with its checksum. Default: true */
  verify?: boolean | undefined;
  imageDevice?: string | undefined;
  /** Called a few times a second until everything is there. */
  onProgress?: ((stats: OnDemandStats) => void) | undefined;
  /** A block of the backup is damaged: reads of it fail until it is written whole. A thousand are told at most. */
  onBadBlock?: ((extent: Extent) => void) | undefined;
  /** Each line that nbdkit says while it serves. */
  onMessage?: ((line: string) => void) | undefined;
  /** Stops it; it can go on later. */
  signal?: AbortSignal | undefined;
}

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
  const { backup, imageDevice, signal, onMessage, ...rest } = checked(options);
  throwIfAborted(signal, 'restore');
  const native = (parts.native ?? binding)();
  const files = await openBackup(backup, native, imageDevice);
  const opened: { close(): Promise<unknown> }[] = [files];
  const closeAll = async () => {
    for (const part of opened.splice(0).reverse()) await part.close();
  };
  try {
    // before anything is overwritten; their digest takes longer than a client wants to wait
    if (rest.verify) await checkChecksumsSize(backup, files);
    const place = await openPlace(rest, files, native, parts.host);
    opened.push(place.destination, place.state.file);
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
    const shown = await startExport(
      {
        device: run.device,
        size: manifest.size,
        readOnly: false,
        socket: rest.socket,
        name: rest.to,
        onMessage,
        signal,
      },
      parts,
    );
    return running(shown, run, place, manifest.size, closeAll, signal);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

const THREADS = 2;

function checked(options: RestoreOnDemandOptions) {
  expectOptions('options', options, [
    'backup',
    'to',
    'socket',
    'state',
    'resume',
    'force',
    'verify',
    'imageDevice',
    'onProgress',
    'onBadBlock',
    'onMessage',
    'signal',
  ]);
  const { backup, imageDevice, signal, resume = false, force = false, verify = true } = options;
  checkCommon({ backup, imageDevice, signal });
  for (const [name, value] of Object.entries({ resume, force, verify })) {
    expectType(`options.${name}`, value, 'boolean');
  }
  for (const name of ['onProgress', 'onBadBlock', 'onMessage'] as const) {
    if (options[name] !== undefined) expectType(`options.${name}`, options[name], 'function');
  }
  const to = checkedPath('options.to', options.to);
  const socket = checkedSocket('options.socket', options.socket);
  const state = options.state === undefined ? undefined : checkedPath('options.state', options.state);
  return { ...options, to, socket, state, resume, force, verify };
}

interface Place {
  destination: Destination;
  state: RestoreStateFile;
  resumed: boolean;
}

/** The destination, and the state file that says what of it is there. */
async function openPlace(
  { to, state, resume, force }: { to: string; state: string | undefined; resume: boolean; force: boolean },
  files: BackupFiles,
  native: NativeBinding,
  host: Host | undefined,
): Promise<Place> {
  const found = await stat(to).catch(() => undefined);
  const path = resolve(state ?? defaultStatePath(to, found?.isBlockDevice() ?? false));
  const interrupted = await openState(path);
  const refused = (why: string) =>
    new SnapbakError('ERR_SNAPBAK_RESTORE', `restore refused: ${why}`, { path });
  if (interrupted === undefined) {
    if (resume) throw refused(`there is no state file ${path} of an interrupted restore`);
    const destination = await openDestination(to, files, force, native, host);
    try {
      // the file must be there after a loss of power if the state file is
      await destination.commit();
      const job = restoreJob(files.manifest, to, await destinationIdentity(to));
      return { destination, state: await makeState(path, job, native), resumed: false };
    } catch (error) {
      await destination.discard();
      await destination.close();
      throw error;
    }
  }
  try {
    const job = restoreJob(files.manifest, to, await destinationIdentity(to).catch(() => 'gone'));
    const other = (['backup', 'checksums', 'size', 'blockSize'] as const).some(
      (key) => job[key] !== interrupted.job[key],
    );
    const anew = `; remove ${path} to begin anew, which overwrites what was written since`;
    if (other) throw refused(`${path} is of the restore of another backup${anew}`);
    if (job.destination !== interrupted.job.destination) {
      throw refused(`${to} is not what ${path} was made for (${interrupted.job.to})${anew}`);
    }
    const destination = await reopenDestination(to, files, native, host);
    return { destination, state: interrupted, resumed: true };
  } catch (error) {
    await interrupted.file.close();
    throw error;
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
