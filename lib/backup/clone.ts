/**
 * The clone of a backup: a second device that gets every block as it is backed
 * up, and that NBD clients may use from the first moment. Native threads move
 * the bytes; here it is opened, shown, and brought to its end.
 *
 * A clone that fails costs the backup nothing. One of a backup that did not
 * finish is not whole, and ends with it.
 */
import { fstat } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { binding, type NativeBinding, type NativeClone, type NativeOriginInfo } from '../binding.js';
import type { OpenContainer } from '../container/container.js';
import { errnoName, SnapbakError } from '../errors.js';
import { type Export, type ExportPrograms, prepareExport, startExport } from '../export/export.js';
import type { Host } from '../host.js';
import { syncDirectory } from '../manifest.js';
import { targetAdvice } from '../native-errors.js';
import { Relay } from '../relay.js';
import { type Destination, openDestination } from '../restore/destination.js';
import type { ServerExit } from '../serve/nbdkit-process.js';
import { whileStarting } from '../start-signal.js';
import { systemError } from '../system-error.js';
import type { PreparedTarget, TargetContext } from '../target/target.js';
import type { BackupClone, CheckedClone, CloneResult, CloneStats } from './clone-options.js';

/** What it is a clone of. */
export interface CloneContext {
  /** The origin, as it was named. */
  spec: string;
  info: NativeOriginInfo;
  blockSize: number;
  /** Descriptors of target and container: the clone must be none of them. */
  inUse: readonly number[];
}

/** What tests replace. */
export interface CloneParts extends ExportPrograms {
  native?: () => NativeBinding;
  host?: Host;
}

const statOf = promisify(fstat);

export class RunningClone implements BackupClone {
  readonly to: string;
  /** For `prepare()` of the session. */
  readonly native: NativeClone;
  readonly #size: number;
  readonly #blockSize: number;
  readonly #destination: Destination;
  readonly #notices = new Relay<number>();
  readonly #toShow: { socket: string; programs: ExportPrograms } | undefined;
  #shown: Export | undefined;
  #lost: SnapbakError | undefined;
  #onLost: (error: SnapbakError) => void = () => {};
  #last: CloneStats | undefined;
  #finished: CloneResult | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Opens the destination, before the session is prepared.
   *
   * @throws SnapbakError `ERR_SNAPBAK_CLONE` with the reason; nothing is changed then
   */
  static async open(
    { to, socket, force }: CheckedClone,
    context: CloneContext,
    parts: CloneParts = {},
  ): Promise<RunningClone> {
    const native = (parts.native ?? binding)();
    // whatever may be missing for the export, before anything is overwritten
    const toShow =
      socket === undefined ? undefined : { socket, programs: await prepareExport(socket, parts) };
    const destination = await openDestination(to, {
      size: context.info.size,
      force,
      not: context.inUse.map((fd) => ({ stat: () => statOf(fd) })),
      origin: context.info,
      purpose: { code: 'ERR_SNAPBAK_CLONE', word: 'clone' },
      native,
      host: parts.host,
    });
    try {
      // its name must be there after a loss of power, if what clients flushed is to be found
      if (destination.fresh) await syncDirectory(dirname(to));
      return new RunningClone(to, destination, context, native, toShow);
    } catch (cause) {
      await destination.discard();
      await destination.close();
      throw systemError('ERR_SNAPBAK_CLONE', `cannot clone to ${to}`, cause, to);
    }
  }

  private constructor(
    to: string,
    destination: Destination,
    { spec, info, blockSize }: CloneContext,
    native: NativeBinding,
    toShow: { socket: string; programs: ExportPrograms } | undefined,
  ) {
    this.to = to;
    this.#toShow = toShow;
    this.#size = info.size;
    this.#blockSize = blockSize;
    this.#destination = destination;
    this.#notices.pass((errno) => this.#noteLost(lostError(spec, to, errno)));
    this.native = native.openClone({
      destinationFd: destination.fd,
      size: info.size,
      blockSize,
      fresh: destination.fresh,
      onLost: this.#notices.call,
    });
  }

  #noteLost(error: SnapbakError): void {
    this.#lost = error;
    this.#onLost(error);
    // after the backup there are no events any more: whoever uses it is told by the end of its export
    if (this.#finished !== undefined) void this.close().catch(() => {});
  }

  /**
   * Shows it to NBD clients, where that was asked for, once the session is
   * prepared: what they read waits for the start instant.
   *
   * @param backup ends the wait for the export, but never the export: that outlives the backup
   */
  async show(backup?: AbortSignal, start = startExport): Promise<void> {
    if (this.#toShow === undefined) return;
    const { socket, programs } = this.#toShow;
    const device = this.native;
    const name = `the clone ${this.to}`;
    this.#shown = await whileStarting(backup, (signal) =>
      start({ device, size: this.#size, readOnly: false, socket, name, signal }, programs),
    );
  }

  /** Calls `told` once with the error if it is lost, or is already. */
  whenLost(told: (error: SnapbakError) => void): void {
    if (this.#lost === undefined) this.#onLost = told;
    else told(this.#lost);
  }

  get uri(): string | undefined {
    return this.#shown?.uri;
  }

  get pid(): number | undefined {
    return this.#shown?.pid;
  }

  get exited(): Promise<ServerExit> | undefined {
    return this.#shown?.exited;
  }

  get lost(): SnapbakError | undefined {
    return this.#lost;
  }

  stats(): CloneStats {
    if (this.#last !== undefined) return this.#last;
    const { totalBlocks, hereBlocks, badBlocks, demands, writtenBlocks } = this.native.stats();
    const bytes = (blocks: number) => Math.min(blocks * this.#blockSize, this.#size);
    return {
      totalBytes: bytes(totalBlocks),
      doneBytes: bytes(hereBlocks),
      badBlocks,
      demands,
      writtenBlocks,
    };
  }

  /** The backup is durable: makes the clone so. One that is not shown is closed then. Never rejects. */
  async finish(): Promise<CloneResult> {
    const closed = this.#closing !== undefined;
    let failure: unknown;
    if (!closed) {
      await this.native.finish().catch((cause: unknown) => {
        failure = cause;
      });
    }
    const stats = this.stats();
    const whole = stats.badBlocks === 0 ? 'complete' : 'complete-with-invalid-blocks';
    const lost = this.#lost !== undefined || failure !== undefined;
    const state = closed || (this.#closing !== undefined && !lost) ? 'closed' : lost ? 'lost' : whole;
    const message = this.#lost?.message ?? (failure as Error | undefined)?.message;
    this.#finished = { to: this.to, state, stats, ...(state === 'lost' && message ? { message } : {}) };
    if (this.#shown === undefined || state === 'lost') await this.close().catch(() => {});
    return this.#finished;
  }

  /**
   * What a backup does with it at its end: nothing if it has finished. Else the
   * clone is not whole: it is closed, and a file that was made for it removed,
   * unless clients were shown it, for what they may have written.
   */
  async release(): Promise<void> {
    if (this.#finished !== undefined) return;
    if (this.#shown === undefined) await this.#destination.discard();
    await this.close().catch(() => {});
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Clients first: they are cut off by their server, and not by a device that fails. */
  async #close(): Promise<void> {
    try {
      await this.#shown?.stop();
      this.#last = this.stats();
      await this.native.close();
    } catch (cause) {
      throw this.#lost ?? systemError('ERR_SNAPBAK_CLONE', `cannot make ${this.to} durable`, cause, this.to);
    } finally {
      this.#notices.cut();
      await this.#destination.close();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Opens the clone of an origin whose target and container are open already. */
export async function openClone(
  clone: CheckedClone | undefined,
  { spec, origin, blockSize, container, target }: TargetContext & OpenBefore,
): Promise<RunningClone | undefined> {
  if (clone === undefined) return undefined;
  const inUse = [target.checksumsFd, ...(container.tiers ?? []).map(({ fd }) => fd)];
  if ('fd' in target.native) inUse.push(target.native.fd);
  return RunningClone.open(clone, { spec, info: origin, blockSize, inUse });
}

interface OpenBefore {
  spec: string;
  container: OpenContainer;
  target: PreparedTarget;
}

function lostError(spec: string, to: string, errno: number): SnapbakError {
  const name = errnoName(errno);
  const advice = targetAdvice(name).replaceAll('target', 'clone');
  return new SnapbakError(
    'ERR_SNAPBAK_CLONE',
    `the clone of ${spec} was given up: writing to ${to} failed (${name})${advice === '' ? '' : `; ${advice}`}`,
    { path: to, errno },
  );
}
