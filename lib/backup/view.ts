/**
 * The origin as it stood at the start instant, to be read while the backup runs
 * and afterwards. Native threads find each block; here its arguments and its
 * errors are made.
 */
import type { NativeExportable, NativeSession } from '../binding.js';
import type { BlockList } from '../blocks/block-list.js';
import { errnoName, SnapbakError } from '../errors.js';
import { type Export, startExport } from '../export/export.js';
import { assertBytes } from '../extent.js';
import { fromNative, isNativeError } from '../native-errors.js';
import { checkedSocket } from '../serve/paths.js';

/** The most that one `read()` gives: it is one Buffer. */
const MAX_READ = 2 ** 30;

/**
 * A device as of the start instant. Its bytes never change: not when
 * applications write, and not when the backup has finished.
 */
export interface PointInTimeView extends AsyncDisposable {
  /** Bytes of the device. */
  readonly size: number;
  /** What the view has: the block list of the backup, as of now. Everything else reads as zeroes. */
  readonly blocks: BlockList;
  /**
   * `length` bytes (at most 1 GiB) from `offset` on, in a Buffer of their own.
   * Any number of reads may be under way; no write of an application waits for one.
   *
   * @throws TypeError or RangeError for what is no range of the device;
   * SnapbakError `ERR_SNAPBAK_IO` with the extent, if a block could not be read
   * from the origin (it is invalid in the backup, too) or from the target;
   * `ERR_SNAPBAK_VIEW` once the view is closed, or the backup broke or was aborted.
   */
  read(offset: number, length: number): Promise<Buffer>;
  /**
   * Shows the view to NBD clients, read-only, by an nbdkit of its own at a Unix
   * socket (mode 0600); resolves when they can connect. It lasts until `stop()`
   * of what it gives, or until the view is closed.
   *
   * @throws TypeError or RangeError for what is no path of a socket;
   * SnapbakError `ERR_SNAPBAK_MISSING` without nbdkit, `ERR_SNAPBAK_ORIGIN` with
   * what nbdkit said, `ERR_SNAPBAK_VIEW` once the view is closed.
   * @example
   * ```ts
   * const { uri } = await view.export('/run/monday.sock'); // nbdcopy "$uri" copy.img
   * ```
   */
  export(socket: string): Promise<ViewExport>;
  /** Reads under way reject, its exports end. The backup goes on. Idempotent. */
  close(): Promise<void>;
}

/** A view that NBD clients are shown. */
export type ViewExport = Pick<Export, 'socket' | 'uri' | 'exited' | 'stop'>;

export interface ViewParts {
  native: NativeExportable;
  /** The origin, as the user named it. */
  spec: string;
  size: number;
  blocks: () => BlockList;
  /** Called once, when the view is closed. */
  onClose?: () => void;
  /** Tests replace it. */
  start?: typeof startExport;
}

/** Opens the view of a running session; throws what `Backup.view()` says. */
export async function openNativeView(session: NativeSession, spec: string): Promise<NativeExportable> {
  try {
    return await session.openView();
  } catch (cause) {
    const name = isNativeError(cause) ? errnoName(cause.errno) : '';
    const why = REFUSED[name];
    if (why === undefined) throw fromNative(cause, { path: spec, doing: 'open a view of', stage: 'view' });
    throw viewError(spec, why, cause);
  }
}

const ENDED = 'the backup has ended';
const REFUSED: Record<string, string> = {
  ENOTSUP: // as Node calls EOPNOTSUPP
    'the target cannot be read back; give a target written in JavaScript a method read(offset, length)',
  ESHUTDOWN: ENDED,
  EBADF: ENDED,
};

export class BackupView implements PointInTimeView {
  readonly size: number;
  readonly #parts: ViewParts;
  readonly #exports = new Set<ViewExport>();
  #closing: Promise<void> | undefined;

  constructor(parts: ViewParts) {
    this.#parts = parts;
    this.size = parts.size;
  }

  get blocks(): BlockList {
    return this.#parts.blocks();
  }

  async read(offset: number, length: number): Promise<Buffer> {
    assertBytes('offset', offset);
    assertBytes('length', length);
    if (length > MAX_READ) throw new RangeError(`length must be at most ${MAX_READ}, got ${length}`);
    if (offset + length > this.size) {
      throw new RangeError(
        `offset + length must be at most the size of the device, ${this.size}, got ${offset + length}`,
      );
    }
    if (this.#closing !== undefined) throw viewError(this.#parts.spec, 'the view is closed');
    try {
      return await this.#parts.native.read(offset, length);
    } catch (cause) {
      throw this.#error(cause, offset, length);
    }
  }

  async export(socket: string, signal?: AbortSignal): Promise<ViewExport> {
    const path = checkedSocket('socket', socket);
    const { native, spec, size, start = startExport } = this.#parts;
    if (this.#closing !== undefined) throw viewError(spec, 'the view is closed');
    const name = `the start instant of ${spec}`;
    const shown = await start({ device: native, size, readOnly: true, socket: path, name, signal });
    this.#exports.add(shown);
    // so the view is known while it is shown, and with it all that it reads from, whoever else forgets them
    void shown.exited.then(() => this.#exports.delete(shown));
    if (this.#closing !== undefined) await shown.stop();
    return shown;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Clients first: they are cut off by their server, and not by a device that fails. */
  async #close(): Promise<void> {
    try {
      await Promise.all([...this.#exports].map((shown) => shown.stop()));
      await this.#parts.native.close();
    } finally {
      this.#parts.onClose?.();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #error(cause: unknown, offset: number, length: number): Error {
    if (!isNativeError(cause)) return cause instanceof Error ? cause : new Error(String(cause));
    const { spec } = this.#parts;
    const name = errnoName(cause.errno);
    if (name === 'ESHUTDOWN' || name === 'EBADF') {
      const why =
        this.#closing === undefined ? 'the backup broke or was aborted' : 'the view was closed meanwhile';
      return viewError(spec, why, cause);
    }
    const why =
      name === 'EREMOTEIO'
        ? "the target's read() failed, or gave another number of bytes"
        : `${name}: a block is invalid, or the target cannot be read`;
    return new SnapbakError(
      'ERR_SNAPBAK_IO',
      `cannot read ${length} bytes at ${offset} of the start instant of ${spec} (${why})`,
      { cause, path: spec, errno: cause.errno, extent: { offset, length } },
    );
  }
}

function viewError(spec: string, why: string, cause?: unknown): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_VIEW', `the start instant of ${spec} cannot be read: ${why}`, {
    cause,
    path: spec,
  });
}

/** The views of one backup that are open. */
export class OpenViews {
  #open = 0;
  #waiting: (() => void)[] = [];

  get any(): boolean {
    return this.#open > 0;
  }

  opened(): () => void {
    this.#open++;
    return () => {
      if (--this.#open > 0) return;
      for (const resolve of this.#waiting.splice(0)) resolve();
    };
  }

  /** Calls `then` when none is open any more; at once if none is. */
  whenNone(then: () => void): void {
    if (this.any) this.#waiting.push(then);
    else then();
  }
}
