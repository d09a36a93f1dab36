/**
 * The only loader of the native addon, and the types of what it exports. The
 * addon moves bytes and answers with errno; everything above decides.
 *
 * Errors: native calls reject (or throw) an `Error` with a numeric `errno`
 * (negative) and a `stage` that says which step failed; `lib/errors.ts` makes
 * a `SnapbakError` of it.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { SnapbakError } from './errors.js';

/** What a failed native call throws. */
export interface NativeError extends Error {
  /** Negative errno. */
  errno: number;
  /** The step that failed, e.g. `open`, `connect`, `setup`, `start`, `target`. */
  stage: string;
  /** Number (st_rdev) of the block device at fault, where one is known. */
  device?: number;
}

/** Byte ranges as the addon takes them: offset, length, offset, length, … */
export type FlatExtents = Float64Array;

/** An origin inside this process (the embedded driver). */
export interface NativeOrigin {
  readonly size: number;
  readonly isBlockDevice: boolean;
  /** `length` bytes into a new Buffer. */
  read(offset: number, length: number): Promise<Buffer>;
  /** The bytes are copied before the call returns. */
  write(offset: number, data: Uint8Array, fua: boolean): Promise<void>;
  writeZeroes(offset: number, length: number, fua: boolean, mayTrim: boolean): Promise<void>;
  discard(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  /** Waits for I/O under way, ends a session, closes. Idempotent. */
  close(): Promise<void>;
}

/** What OPEN answered. */
export interface NativeOriginInfo {
  size: number;
  sectorSize: number;
  isBlockDevice: boolean;
  id: string;
  /** Number of the origin as a block device; 0 where it is none (user and embedded driver). */
  dev: number;
  lowerDev: number;
  lowerInode: number;
  lowerFsDev: number;
  /** Where on the lower device the origin begins, bytes. */
  lowerOffset: number;
  driver: 'kernel' | 'user' | 'embedded';
  driverVersion: string;
  abiVersion: number;
  /** SNAPBAK_F_ bits. */
  features: number;
  maxSlots: number;
  minBlockSize: number;
  maxBlockSize: number;
}

/** The answer to STATUS. */
export interface NativeStatus {
  /** enum snapbak_state; `new` with `slots` 0: no session. */
  state: 'new' | 'ready' | 'armed' | 'finished' | 'broken';
  reason: NativeReason;
  errno: number;
  id: string;
  size: number;
  blockSize: number;
  slots: number;
  blocks: number;
  pendingBlocks: number;
  /** Milliseconds since the epoch, 0 before START. */
  startTime: number;
  armNs: number;
  /** How long file systems were frozen at START; 0: none was. */
  freezeNs: number;
  counters: NativeCounters;
}

export type NativeReason =
  | 'none'
  | 'aborted'
  | 'closed'
  | 'hold-timeout'
  | 'protocol'
  | 'origin-gone'
  | 'stalled';

/** The driver's counters, named after enum snapbak_counter. */
export interface NativeCounters {
  captured: number;
  captureNs: number;
  invalid: number;
  held: number;
  heldNow: number;
  heldNs: number;
  heldMaxNs: number;
  wanted: number;
  delayed: number;
  delayedNs: number;
  waited: number;
  discardsDropped: number;
  eagain: number;
  slotsUsed: number;
  protocolErrors: number;
  delayedNow: number;
  captureMaxNs: number;
  delayedMaxNs: number;
  /** Requests of applications, and their time; 0 with the kernel driver. */
  io: number;
  ioNs: number;
  /** Hints that other processes gave. */
  hints: number;
}

/** The driver's histograms, all buckets each, of the moment of the call; see enum snapbak_histogram. */
export interface NativeHistograms {
  capture: Float64Array;
  delay: Float64Array;
  hold: Float64Array;
}

/** A picture of a running copy; see CopyStats in native/copy/copy_session.h. */
export interface NativeStats {
  listedBlocks: number;
  doneBlocks: number;
  invalidBlocks: number;
  safeBlocks: number;
  sweptBlocks: number;
  capturedBlocks: number;
  wantedBlocks: number;
  zeroBlocks: number;
  droppedBytes: number;
  readBytes: number;
  writtenBytes: number;
  spilledBlocks: number;
  queuedWorkBytes: number;
  slotsTotal: number;
  slotsUsed: number;
  /** Blocks, of the second tiers that are not lost. */
  tier2Total: number;
  tier2Used: number;
  /** The second tiers in order; blocks. */
  tiers: { total: number; used: number; lost: boolean }[];
  state: NativeStatus['state'];
  reason: NativeReason;
  counters: NativeCounters;
  histograms: NativeHistograms;
  startTime: number;
  armNs: number;
  freezeNs: number;
  bufferBytes: number;
  memoryLocked: boolean;
}

export type NativeNotice =
  | { kind: 'need-work' }
  | { kind: 'complete' }
  /** Other processes would have something copied next; told again only after `takeHints()`. */
  | { kind: 'hint' }
  | { kind: 'invalid'; block: number; errno: number }
  /** `tier`: its number, in the order of `prepare()`. */
  | { kind: 'tier2-lost'; errno: number; tier: number }
  | { kind: 'tier2-data'; errno: number; tier: number }
  | { kind: 'target-error'; errno: number; message?: string }
  | { kind: 'broken'; reason: NativeReason; errno: number }
  | { kind: 'driver-gone' };

/** Where the blocks go: an open descriptor (the addon takes a duplicate), or JavaScript. */
export type NativeTarget =
  | { fd: number; fresh: boolean }
  | {
      /** Called on the JavaScript thread, one promise a call; `data` is the callee's to keep. */
      write(offset: number, data: Buffer): Promise<void> | void;
      flush(): Promise<void> | void;
      /** All of `length` bytes; without it there are no views. */
      read?(offset: number, length: number): Promise<Uint8Array> | Uint8Array;
    };

/** A second tier: `capacity` bytes of a descriptor from its beginning on, or in `areas` of it. */
export interface NativeTier2 {
  fd: number;
  direct: boolean;
  /** Bytes, whole blocks. */
  capacity: number;
  areas?: FlatExtents;
}

export interface NativePrepareOptions {
  blockSize: number;
  slots: number;
  onFull: 'break' | 'hold';
  holdTimeoutMs: number;
  /** The block list. */
  listed: FlatExtents;
  target: NativeTarget;
  /** Descriptor of `checksums`, open for reading and writing; duplicated. */
  checksumsFd: number;
  /** Second tiers, in order of preference; the descriptors are duplicated. */
  tiers: readonly NativeTier2[];
  /** While writes are held and nothing was drained for so long, the driver breaks the session. */
  stallTimeoutMs: number;
  /** Slots in use above which drain and spill come before the sweep. */
  watermarkLow: number;
  /** Slots in use down to which a full container is drained before held writes get slots; not below `watermarkLow`. */
  drainTo: number;
  copyThreads: number;
  readBytes: number;
  /** The driver is to tell its heat at START; only where it has `FEATURE_HEAT`. Default: no. */
  heat?: boolean;
  /** A second device that gets every block, too; of the origin's size and the same block size. */
  clone?: NativeClone;
  /** Called on the JavaScript thread. */
  onNotice(notice: NativeNotice): void;
}

/** `SNAPBAK_F_HEAT` of `NativeOriginInfo.features`: the driver keeps account of when regions were written. */
export const FEATURE_HEAT = 2 ** 9;

/** When each region of the origin was written last; see "Heat" in snapbak.h. */
export interface NativeHeat {
  /** Bytes, a power of two from 64 KiB on; the last region may be shorter. */
  regionSize: number;
  /** The tick of START. `now` minus a region's is its age, modulo 2^32; a tick is an eighth to a quarter of a second. */
  now: number;
  /** A region each, 0 where it was never written; empty where the driver was not asked. */
  ticks: Uint32Array;
}

/** How the driver slows down writes that need a capture; see kernel-module/core/snapbak_throttle.h. */
export interface NativeThrottle {
  /** Slots in use at which delays begin; 0: no throttle. */
  begin: number;
  /** Slots in use at which they are the longest. */
  full: number;
  /** Bytes a second. */
  rate: number;
  maxUs: number;
}

/** What START answered: milliseconds since the epoch; how long writes stood still, and file systems were frozen. */
export interface NativeInstant {
  startTime: number;
  armNs: number;
  freezeNs: number;
}

/** One control descriptor and the copy behind it. */
export interface NativeSession {
  /** QUERY and OPEN. */
  open(): Promise<NativeOriginInfo>;
  /** STATUS; needs no open(). */
  status(): Promise<NativeStatus>;
  /**
   * HINT, for each extent: to the origin's session, whoever owns it; needs no
   * open(). Rejects with `ENODATA` if it has none, `ENOTTY` if the driver is older.
   */
  hint(extents: FlatExtents): Promise<void>;
  /** Hints that came since the last call, the oldest first; only the newest 256. */
  takeHints(): FlatExtents;
  /** As of START, from then on. */
  heat(): NativeHeat;
  /** SETUP, buffers, threads, pending bits. */
  prepare(options: NativePrepareOptions): Promise<void>;
  /**
   * After open(): what is dirty on the lower device of a user or embedded driver is written, so
   * that START has less to flush, and tells errors. close() does not wait for it.
   */
  flush(): Promise<void>;
  /** START. */
  start(timeoutMs: number): Promise<NativeInstant>;
  /**
   * One start instant for all of `sessions`, this one among them: a promise each.
   * The kernel driver freezes file systems in their order.
   * If one fails, all reject (those that did not fail themselves with
   * `ECANCELED`), and every session is aborted, without waiting for JavaScript:
   * writes stand still meanwhile, for `timeoutMs` at most.
   */
  startTogether(sessions: readonly NativeSession[], timeoutMs: number): Promise<NativeInstant>[];
  /** Bytes of the blocks among them that are pending. */
  pushWork(extents: FlatExtents, priority: boolean): number;
  /** Where the first pending block from `offset` on lies; `end` if none does before it. Bytes, whole blocks. */
  nextPending(offset: number, end: number): number;
  setPaused(paused: boolean): void;
  /** Slots at which delays begin and become the longest, bytes drained a second, the longest delay. */
  setThrottle(throttle: NativeThrottle): void;
  /**
   * Moves the end of a second tier of one piece. Space up to a later end must be
   * there already. Resolves when nothing beyond an earlier one is in use any
   * more, nor ever will be. Rejects with `ECANCELED` (another resize of it came,
   * or the session ended), `EIO` (it is lost), `EOPNOTSUPP` (it has pieces).
   */
  resizeTier(tier: number, bytes: number): Promise<void>;
  /**
   * Takes those blocks out of the list of an armed session that lie inside the
   * extents as a whole and are pending still, and tells which. Held writes of
   * them go on. Throws `EINVAL` where it is not armed, `EBADF` once it is closed.
   */
  unlist(extents: FlatExtents): FlatExtents;
  /**
   * The origin as of START, from then on. Stays, over the target, when the
   * session is finished and closed; reads fail with `ESHUTDOWN` when it ends
   * otherwise, and with `EIO` for invalid blocks. Rejects with `EOPNOTSUPP`
   * (the target cannot be read), `EINVAL` (before START), `ESHUTDOWN` or `EBADF` (it is over).
   */
  openView(): Promise<NativeExportable>;
  stats(): NativeStats;
  /** FINISH in the driver, after the target and `checksums` were flushed. */
  finish(): Promise<void>;
  /** ABORT, if a session is open; threads are joined. Idempotent. */
  abort(): Promise<void>;
  /** abort() unless finished, then everything is given back. Idempotent. */
  close(): Promise<void>;
}

export interface NativeReplayOptions {
  imageFd: number;
  checksumsFd: number;
  /** Absent: verify only. */
  target?: { fd: number; fresh: boolean };
  imageSize: number;
  blockSize: number;
  threads: number;
  check: boolean;
  extents: FlatExtents;
  /** Invalid blocks, ascending: neither checked nor written. */
  skip: Float64Array;
}

export interface NativeReplayResult {
  doneBytes: number;
  zeroBytes: number;
  badBlocks: number;
  /** The first thousand damaged blocks. */
  bad: number[];
}

/** A running verify or restore. */
export interface NativeReplay {
  readonly finished: Promise<NativeReplayResult>;
  stats(): { doneBytes: number; zeroBytes: number; badBlocks: number };
  cancel(): void;
}

/** A device of this process that NBD clients can be shown: lib/export/export.ts. */
export interface NativeExportable {
  /** `length` bytes into a new Buffer. */
  read(offset: number, length: number): Promise<Buffer>;
  /**
   * Answers requests on so many new connections, and gives the descriptors of
   * their other ends: for a child, and then to be closed by the caller.
   */
  serve(connections: number): number[];
  /** Waits for nobody: requests under way end with an error. Idempotent. */
  close(): Promise<void>;
}

/** Descriptors are duplicated. */
export interface NativeLazyRestoreOptions {
  imageFd: number;
  checksumsFd: number;
  destinationFd: number;
  /** The state file, see native/copy/restore_state.h. */
  stateFd: number;
  /** Names this boot of the machine. */
  boot: string;
  imageSize: number;
  blockSize: number;
  threads: number;
  check: boolean;
  /** What was never written reads as zeroes on the destination. */
  fresh: boolean;
  /** What is restored. */
  extents: FlatExtents;
  /** Called on the JavaScript thread. */
  onNotice(notice: NativeLazyNotice): void;
}

/** `failed`: the background gave up; `settled`: all is there, durably, but for bad blocks. */
export interface NativeLazyNotice {
  kind: 'bad-block' | 'failed' | 'settled';
  block: number;
  errno: number;
}

/** A restore that is used while it runs; see LazyRestoreStats. */
export interface NativeLazyRestore extends NativeExportable {
  stats(): {
    totalBlocks: number;
    hereBlocks: number;
    badBlocks: number;
    demandBlocks: number;
    writtenBlocks: number;
  };
}

export interface NativeCloneOptions {
  /** Duplicated. */
  destinationFd: number;
  /** Bytes, of the origin and of a block. */
  size: number;
  blockSize: number;
  /** The destination reads as zeroes. */
  fresh: boolean;
  /** Called once at most, on the JavaScript thread, with the negative errno that lost it. */
  onLost(errno: number): void;
}

/** A second device that a session fills, and that is used meanwhile; see native/copy/clone.h. */
export interface NativeClone extends NativeExportable {
  /** After the session has copied all: makes it durable. Rejects if it is lost, or closed. */
  finish(): Promise<void>;
  stats(): {
    totalBlocks: number;
    hereBlocks: number;
    badBlocks: number;
    demands: number;
    writtenBlocks: number;
  };
}

/** A device of device-mapper. */
export interface NativeDmInfo {
  name: string;
  uuid: string;
  /** Its number, as in st_rdev. */
  device: number;
  openCount: number;
  suspended: boolean;
  liveTable: boolean;
  inactiveTable: boolean;
  readOnly: boolean;
}

/** A line of a table, in bytes. Its parameters stay in the addon: they may hold keys. */
export interface NativeDmLine {
  offset: number;
  length: number;
  type: string;
}

/** What to put under a device in use, or to take away; see DmLayer in native/driver/dm_layer.h. */
export interface NativeDmLayer {
  /** Name of the device in use. */
  origin: string;
  lowerName: string;
  lowerUuid: string;
  /** `snapbak` */
  target: string;
  /** Where on the lower device the target begins, bytes. */
  offset: number;
  /** Udev leaves the origin alone, too. */
  hidden: boolean;
}

/** How work on devices ended; see DmOutcome in native/driver/dm_swap.h. */
export interface NativeDmOutcome {
  /** 0 or negative errno of the step that failed. */
  errno: number;
  step: string;
  /** The same of undoing the steps before it. */
  undoErrno: number;
  undoStep: string;
  /** The origin is suspended and could not be resumed. */
  suspended: boolean;
  /** The lower device is in use by somebody; it goes when that one lets go. */
  lowerLeft: boolean;
  /** How long the swap took: no write waited longer for it. */
  stoppedNs: number;
}

/**
 * Device-mapper control by libdevmapper. Rejects with `ELIBACC` where that is not
 * installed, `EACCES` for all but root, `ENODEV` where the kernel has no device-mapper.
 */
export interface NativeDeviceMapper {
  /** libdevmapper is there. */
  installed(): boolean;
  /** Null: there is no such device, or it is none of device-mapper's. */
  info(where: { device: number } | { name: string } | { uuid: string }): Promise<NativeDmInfo | null>;
  table(name: string, inactive: boolean): Promise<NativeDmLine[]>;
  /** Numbers of the devices that the live table stands on. */
  deps(name: string): Promise<number[]>;
  /** `1.0.0`; loads the target's module where it can. Null: there is no such target. */
  targetVersion(type: string): Promise<string | null>;
  attach(layer: NativeDmLayer): Promise<NativeDmOutcome>;
  detach(layer: NativeDmLayer): Promise<NativeDmOutcome>;
  /** A new device of one line over an unused block device. */
  create(what: { name: string; uuid: string; target: string; device: number }): Promise<NativeDmOutcome>;
  /** A device of one line goes on as `linear` on the same device. */
  makeLinear(name: string, hidden: boolean): Promise<NativeDmOutcome>;
  remove(name: string): Promise<void>;
  /** Empties the slot of the table that is not live. */
  clear(name: string): Promise<void>;
}

/** The device beneath a file system, all in bytes. */
export interface NativeBeneath {
  /** Open for direct I/O. */
  fd: number;
  sectorSize: number;
  /** Where on it the device of the file system begins. */
  offset: number;
  /** Of the device of the file system. */
  size: number;
}

export interface NativePinnedFile {
  /** Of the file, in bytes of the device of its file system. */
  extents: FlatExtents;
  unsuited?: string;
}

/** A partition as libblkid finds it; bytes of the range that was probed. */
export interface NativePartition {
  number: number;
  offset: number;
  length: number;
  /** Of a DOS table: it holds logical ones. */
  extended: boolean;
  /** Of a DOS table. */
  type: number;
}

/** What libblkid finds in a range; empty strings: nothing. */
export interface NativeRangeProbe {
  type: string;
  usage: string;
  /** `gpt`, `dos`, … */
  table: string;
  /** Signatures that exclude each other. */
  several: boolean;
  partitions: NativePartition[];
}

/** What an ext2, ext3 or ext4 uses; see native/blocks/ext_blocks.h. */
export interface NativeExtBlocks {
  extents: FlatExtents;
  liveJournal: boolean;
  /** It cannot be told with certainty. */
  doubt?: string;
  /** That is so because it has no journal and was not unmounted. */
  unclean?: boolean;
}

/** What used-block lists are read from: a descriptor, or a view. */
export type NativeSource = number | NativeExportable;

export interface NativeBinding {
  openOrigin(path: string, readOnly: boolean): Promise<NativeOrigin>;
  /**
   * A session on an embedded origin, on the user driver behind a control socket,
   * or on the block device of this number with the kernel driver.
   */
  createSession(where: { origin: NativeOrigin } | { socket: string } | { device: number }): NativeSession;
  replay(options: NativeReplayOptions): NativeReplay;
  openLazyRestore(options: NativeLazyRestoreOptions): Promise<NativeLazyRestore>;
  openClone(options: NativeCloneOptions): NativeClone;
  crc32c(data: Uint8Array): number;
  crc32cImplementation(): string;
  /** Bytes of a file or a block device. */
  deviceSize(fd: number): number;
  /** What libblkid finds on it: `{ type: 'ext4', usage: 'filesystem' }`, or null. */
  probeSignature(path: string): { type: string; usage: string } | null;
  /**
   * The same of a part of a descriptor or of a device of ours, with the partitions where
   * there is a table. Of a device of ours, logical partitions of a DOS table may lack.
   */
  probeRange(source: NativeSource, offset: number, length: number): Promise<NativeRangeProbe>;
  /** `checked`: e2fsck found it consistent, so that it need not say so itself (`unclean`). */
  extBlocks(source: NativeSource, offset: number, length: number, checked: boolean): Promise<NativeExtBlocks>;
  /** posix_fallocate of `bytes` bytes at `from` (0), and every page written, so that later writes allocate nothing. */
  preallocate(fd: number, bytes: number, from?: number): Promise<void>;
  /** BLKFLSBUF of a block device: what is dirty in its page cache is written, and the cache emptied. Needs root. */
  flushBuffers(fd: number): Promise<void>;
  /**
   * Locks a file for as long as its open file description lives, against a driver that serves it and a
   * restore to it; throws EBUSY where one is. What has a descriptor duplicated from `fd` is let in.
   */
  lockFile(fd: number): void;
  /**
   * Fills a new file of ours and pins it (immutable), so that its bytes stay
   * where they are on the device beneath its file system, and tells where.
   * `unsuited`, in words that continue "it …": such a file cannot be used.
   */
  pinFile(fd: number, bytes: number, beneath: NativeBeneath): Promise<NativePinnedFile>;
  /** May be removed again. */
  unpinFile(fd: number): void;
  /**
   * Removes a pinned file that a killed process left. False: there is nothing.
   * EEXIST: there is something else; EBUSY: a process that lives has it.
   */
  removeLeftPinned(path: string): boolean;
  /** syncfs: what is dirty in the file system that holds `path` is written. */
  syncFileSystem(path: string): Promise<void>;
  deviceMapper: NativeDeviceMapper;
  /** The kernel module's version, and the contract's that it speaks; throws where it cannot be asked. */
  queryKernelDriver(): { abiVersion: number; version: string };
  abiVersion: number;
}

let loaded: NativeBinding | undefined;

/**
 * The addon: a prebuilt one from the package, or the one built here.
 *
 * @throws SnapbakError `ERR_SNAPBAK_MISSING` if neither is there.
 */
export function binding(): NativeBinding {
  if (loaded === undefined) {
    const require = createRequire(import.meta.url);
    const load = require('node-gyp-build') as (dir: string) => NativeBinding;
    // lib/ in the sources and dist/ in the package both lie one below the root
    try {
      loaded = load(fileURLToPath(new URL('..', import.meta.url)));
    } catch (cause) {
      throw new SnapbakError(
        'ERR_SNAPBAK_MISSING',
        `the native addon cannot be loaded for this machine (${process.platform} ${process.arch}): ` +
          'build it by "npm run build:native" (Debian: apt-get install g++ make python3)',
        { cause },
      );
    }
  }
  return loaded;
}
