/**
 * The addon's restore on demand from its opening to its end: what it tells
 * becomes progress, and one promise for "everything is there".
 */
import type {
  NativeBinding,
  NativeLazyNotice,
  NativeLazyRestore,
  NativeLazyRestoreOptions,
} from '../binding.js';
import { SnapbakError } from '../errors.js';
import type { Extent } from '../extent.js';
import { Relay } from '../relay.js';
import { systemError } from '../system-error.js';

/** How far a restore on demand is. */
export interface OnDemandStats {
  /** Bytes to be restored. */
  totalBytes: number;
  /** Bytes of them that are there; whole blocks. */
  doneBytes: number;
  /** Blocks that are damaged in the backup and were not written since. */
  badBlocks: number;
  /** Blocks that came because a client asked for them. */
  demandBlocks: number;
  /** Blocks that were never brought, because a client wrote them whole. */
  writtenBlocks: number;
}

/** When everything is there. */
export interface OnDemandResult extends OnDemandStats {
  /** Blocks that the backup lists but could not read from the origin; they were skipped. */
  invalidBlocks: number;
  /** How long it took, of this run. */
  seconds: number;
}

export interface LazyRunOptions extends Omit<NativeLazyRestoreOptions, 'onNotice'> {
  invalidBlocks: number;
  imagePath: string;
  /** Resolves when the checksums are known to be the backup's. */
  checksumsGood(stop: AbortSignal): Promise<void>;
  onProgress: ((stats: OnDemandStats) => void) | undefined;
  onBadBlock: ((extent: Extent) => void) | undefined;
}

const PROGRESS_MS = 200;

export class LazyRun {
  readonly device: NativeLazyRestore;
  readonly restored: Promise<OnDemandResult>;
  /** Resolves when the checksums turn out to be damaged; else never. */
  readonly untrusted: Promise<void>;
  /** Everything is there and is the backup's. */
  complete = false;
  readonly #options: LazyRunOptions;
  readonly #notices: Relay<NativeLazyNotice>;
  readonly #began = performance.now();
  readonly #ended = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #reject: (error: unknown) => void = () => {};
  #closing: Promise<void> | undefined;

  static async open(native: NativeBinding, options: LazyRunOptions): Promise<LazyRun> {
    const notices = new Relay<NativeLazyNotice>();
    const { invalidBlocks, imagePath, checksumsGood, onProgress, onBadBlock, ...plain } = options;
    try {
      const device = await native.openLazyRestore({ ...plain, onNotice: notices.call });
      return new LazyRun(device, options, notices);
    } catch (cause) {
      throw systemError('ERR_SNAPBAK_RESTORE', 'cannot begin the restore', cause);
    }
  }

  private constructor(device: NativeLazyRestore, options: LazyRunOptions, notices: Relay<NativeLazyNotice>) {
    this.device = device;
    this.#options = options;
    this.#notices = notices;
    const settled = new Promise<void>((resolve, reject) => {
      notices.pass((notice) => LazyRun.#take(options, notice, resolve, reject));
    });
    const good = options.checksumsGood(this.#ended.signal);
    this.untrusted = new Promise((resolve) => {
      good.catch(() => {
        if (!this.#ended.signal.aborted) resolve();
      });
    });
    this.restored = new Promise((resolve, reject) => {
      this.#reject = reject;
      Promise.all([settled, good])
        .then(() => resolve(this.#result()), reject)
        .catch(reject);
    });
    this.restored.then(
      () => this.#stopTimer(),
      () => this.#stopTimer(),
    );
    const { onProgress } = options;
    if (onProgress !== undefined) {
      this.#timer = setInterval(() => onProgress(this.stats()), PROGRESS_MS);
      this.#timer.unref();
    }
  }

  static #take(
    { blockSize, imageSize, onBadBlock }: LazyRunOptions,
    { kind, block, errno }: NativeLazyNotice,
    settle: () => void,
    fail: (error: unknown) => void,
  ): void {
    if (kind === 'settled') settle();
    else if (kind === 'failed') {
      const cause = { errno };
      fail(systemError('ERR_SNAPBAK_RESTORE', 'cannot write what is restored', cause));
    } else {
      const offset = block * blockSize;
      onBadBlock?.({ offset, length: Math.min(blockSize, imageSize - offset) });
    }
  }

  stats(): OnDemandStats {
    const { blockSize, imageSize } = this.#options;
    const { totalBlocks, hereBlocks, badBlocks, demandBlocks, writtenBlocks } = this.device.stats();
    const bytes = (blocks: number) => Math.min(blocks * blockSize, imageSize);
    return {
      totalBytes: bytes(totalBlocks),
      doneBytes: bytes(hereBlocks),
      badBlocks,
      demandBlocks,
      writtenBlocks,
    };
  }

  #result(): OnDemandResult {
    const { invalidBlocks, imagePath, onProgress } = this.#options;
    const stats = this.stats();
    onProgress?.(stats);
    if (stats.badBlocks > 0) {
      const count = stats.badBlocks === 1 ? 'one block is damaged' : `${stats.badBlocks} blocks are damaged`;
      throw new SnapbakError('ERR_SNAPBAK_CORRUPT', `${imagePath}: ${count}; everything else is there`, {
        path: imagePath,
      });
    }
    this.complete = true;
    return { ...stats, invalidBlocks, seconds: (performance.now() - this.#began) / 1000 };
  }

  #stopTimer(): void {
    clearInterval(this.#timer);
  }

  /** Ends it; what is there is durable then. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#ended.abort();
    this.#stopTimer();
    try {
      await this.device.close();
    } catch (cause) {
      this.complete = false;
      throw systemError('ERR_SNAPBAK_RESTORE', 'cannot make durable what was restored', cause);
    } finally {
      this.#notices.cut();
      this.#reject(
        new SnapbakError('ERR_SNAPBAK_ABORTED', 'the restore was stopped before everything was there'),
      );
    }
  }
}
