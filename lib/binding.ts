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
  lowerDev: number;
  lowerInode: number;
  lowerFsDev: number;
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
}

/** A picture of a running copy; see CopyStats in native/copy/copy_session.h. */
export interface NativeStats {
  listedBlocks: number;
  doneBlocks: number;
  invalidBlocks: number;
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
  tier2Total: number;
  tier2Used: number;
  state: NativeStatus['state'];
  reason: NativeReason;
  counters: NativeCounters;
  startTime: number;
  armNs: number;
  bufferBytes: number;
  memoryLocked: boolean;
}

export type NativeNotice =
  | { kind: 'need-work' }
  | { kind: 'complete' }
  | { kind: 'invalid'; block: number; errno: number }
  | { kind: 'tier2-lost'; errno: number }
  | { kind: 'tier2-data'; errno: number }
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
    };

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
  /** Second tier, or absent; the descriptor is duplicated. */
  tier2?: { fd: number; direct: boolean; capacity: number };
  /** Slots in use above which drain and spill come before the sweep. */
  watermarkLow: number;
  copyThreads: number;
  readBytes: number;
  /** Called on the JavaScript thread. */
  onNotice(notice: NativeNotice): void;
}

/** One control descriptor and the copy behind it. */
export interface NativeSession {
  /** QUERY and OPEN. */
  open(): Promise<NativeOriginInfo>;
  /** STATUS; needs no open(). */
  status(): Promise<NativeStatus>;
  /** SETUP, buffers, threads, pending bits. */
  prepare(options: NativePrepareOptions): Promise<void>;
  /** START. */
  start(timeoutMs: number): Promise<{ startTime: number; armNs: number }>;
  /** Bytes of the blocks among them that are pending. */
  pushWork(extents: FlatExtents, priority: boolean): number;
  setPaused(paused: boolean): void;
  setWatermarkLow(slots: number): void;
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

export interface NativeBinding {
  openOrigin(path: string, readOnly: boolean): Promise<NativeOrigin>;
  /** A session on an embedded origin, or on the user driver behind a control socket. */
  createSession(where: { origin: NativeOrigin } | { socket: string }): NativeSession;
  replay(options: NativeReplayOptions): NativeReplay;
  crc32c(data: Uint8Array): number;
  crc32cImplementation(): string;
  /** Bytes of a file or a block device. */
  deviceSize(fd: number): number;
  /** What libblkid finds on it: `{ type: 'ext4', usage: 'filesystem' }`, or null. */
  probeSignature(path: string): { type: string; usage: string } | null;
  /** posix_fallocate, and every page written, so that later writes allocate nothing. */
  preallocate(fd: number, bytes: number): Promise<void>;
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
