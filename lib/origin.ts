/**
 * Origins: the device under backup, as a driver shows it. `openOrigin` finds
 * one that the kernel or a driver in another process serves; `openEmbedded`
 * makes one of an image in this process, whose writes are its methods (the
 * embedded driver).
 */
import { resolve } from 'node:path';
import { expectOptions, expectType } from './arguments.js';
import {
  binding,
  type NativeBinding,
  type NativeOriginInfo,
  type NativeSession,
  type NativeStatus,
} from './binding.js';
import { type Extent, show } from './extent.js';
import { type Host, type RequestTotals, thisHost } from './host.js';
import { fromNative } from './native-errors.js';
import { KernelOrigin } from './origin/kernel-origin.js';
import { LocalOrigin } from './origin/local-origin.js';
import { ServedOrigin } from './origin/served-origin.js';

/** What a driver says about an origin. */
export interface OriginInfo extends NativeOriginInfo {
  /** As given to `openOrigin`, or `embedded:PATH`. */
  spec: string;
}

/** A session's state and counters, whoever owns it; `state: 'new'` with `slots: 0` says that there is none. */
export type OriginStatus = NativeStatus;

/** The device under backup. */
export interface Origin extends AsyncDisposable {
  /** As given to `openOrigin`, or `embedded:PATH`. */
  readonly spec: string;
  /** Bytes. */
  readonly size: number;
  /**
   * What the driver says about the origin. The first call opens a session for
   * a moment; later ones answer from memory.
   *
   * @throws SnapbakError `ERR_SNAPBAK_BUSY` while another session runs.
   */
  info(): Promise<OriginInfo>;
  /** State and counters of the origin's session, also while another process owns it. */
  status(): Promise<OriginStatus>;
  /**
   * Tells the backup that runs, whichever process it is in, to copy these
   * extents next: the first of them first, before those of earlier hints. It is
   * advice: other hints may come after it, and a quarter of the sweep goes on
   * with the block list. What is copied already, or not listed, costs nothing.
   *
   * @throws TypeError or RangeError for what is no extent of the device, or for
   * more than 64 of them.
   * @throws SnapbakError `ERR_SNAPBAK_NO_SESSION` if no backup runs,
   * `ERR_SNAPBAK_VERSION` if the driver knows no hints.
   * @example
   * ```ts
   * await origin.hint([{ offset: 0, length: 1 << 20 }]);
   * ```
   */
  hint(extents: Iterable<Extent>): Promise<void>;
  /** Gives the origin back. Idempotent. A session that runs on an embedded origin breaks. */
  close(): Promise<void>;
  /** @internal One control descriptor. */
  createSession(): NativeSession;
  /** @internal What applications asked of the device, as the system counts; nothing where the driver's counters tell. */
  requestTotals(): Promise<RequestTotals | undefined>;
  /** @internal Of its file systems, before the start, so that writes stand still for a shorter time then. */
  writeDirtyPages(): Promise<void>;
}

/** How `write` is done. */
export interface WriteOptions {
  /** Durable before the promise resolves. Default: false. */
  fua?: boolean;
}

/** How `writeZeroes` is done. */
export interface WriteZeroesOptions extends WriteOptions {
  /** May leave a hole. Default: true. */
  mayTrim?: boolean;
}

/**
 * An origin in this process. Offsets and lengths are bytes of any alignment;
 * several calls may be under way at once, in no order among themselves. What
 * lies past the end of the device is refused without side effect
 * (`RangeError`); I/O errors are a `SnapbakError` with `errno` and `extent`.
 */
export interface EmbeddedOrigin extends Origin {
  /** `length` bytes (at most 1 GiB) from `offset`. */
  read(offset: number, length: number): Promise<Buffer>;
  /** Writes `data` (at most 1 GiB); it may be reused as soon as the call returned. */
  write(offset: number, data: Uint8Array, options?: WriteOptions): Promise<void>;
  /** The range reads as zeroes afterwards. */
  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Promise<void>;
  /** Advice: the range's content is not needed any more. */
  discard(offset: number, length: number): Promise<void>;
  /** What was written before is durable afterwards. */
  flush(): Promise<void>;
}

/** How an image is opened. */
export interface EmbeddedOptions {
  /** Refuse writes. Default: false. */
  readOnly?: boolean;
}

/**
 * Opens an origin that a driver serves.
 *
 * @param spec a block device with the kernel driver attached, by any path that
 * starts with `/` (links are followed), or `unix:CONTROL_SOCKET`, the socket of
 * `snapbak serve --control`.
 * @throws TypeError if `spec` is no string of that form.
 * @throws SnapbakError `ERR_SNAPBAK_ORIGIN` if nobody serves there, or no driver
 * is attached; `ERR_SNAPBAK_MISSING` if the kernel module is not loaded;
 * `ERR_SNAPBAK_PERMISSION`, `ERR_SNAPBAK_PROTOCOL`, `ERR_SNAPBAK_VERSION`.
 * @example
 * ```ts
 * await using origin = await openOrigin('/dev/mapper/vg-data');
 * console.log(origin.size, (await origin.status()).state);
 * ```
 */
export async function openOrigin(
  spec: string,
  native: NativeBinding = binding(),
  host: Host = thisHost,
): Promise<Origin> {
  expectType('spec', spec, 'string');
  const device = spec.startsWith('/');
  const path = device ? spec : spec.startsWith('unix:') ? spec.slice('unix:'.length) : '';
  if (path === '' || path.includes('\0')) {
    throw new TypeError(`spec must be /dev/DEVICE or unix:CONTROL_SOCKET, not ${show(spec)}`);
  }
  if (device) return KernelOrigin.open(spec, native, host);
  const socket = resolve(path);
  const origin = new ServedOrigin(spec, () => native.createSession({ socket }));
  await origin.connect();
  return origin;
}

/**
 * Opens an image file or a block device as an origin in this process.
 * Everything that writes to it must do so through this object.
 *
 * @throws SnapbakError `ERR_SNAPBAK_ORIGIN` or `ERR_SNAPBAK_PERMISSION`.
 * @example
 * ```ts
 * await using origin = await openEmbedded('disk.img');
 * const backup = await startBackup({ origin, target: directoryTarget('backup') });
 * await origin.write(4096, Buffer.from('not in the backup'));
 * await backup.finished;
 * ```
 */
export async function openEmbedded(
  path: string,
  options: EmbeddedOptions = {},
  native: NativeBinding = binding(),
): Promise<EmbeddedOrigin> {
  expectType('path', path, 'string');
  if (path === '' || path.includes('\0')) {
    throw new TypeError(`path must name a file or a device, not ${show(path)}`);
  }
  expectOptions('options', options, ['readOnly']);
  if (options.readOnly !== undefined) expectType('options.readOnly', options.readOnly, 'boolean');
  try {
    const opened = await native.openOrigin(resolve(path), options.readOnly ?? false);
    return new LocalOrigin(`embedded:${path}`, path, opened, native);
  } catch (error) {
    throw fromNative(error, { path, doing: 'open the image', local: true });
  }
}
