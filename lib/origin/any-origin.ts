/**
 * What all kinds of origin have in common: sessions on it, and a memory of
 * what the driver said about it.
 */
import type { NativeSession } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { assertExtent, type Extent, flatten, show } from '../extent.js';
import type { RequestTotals } from '../host.js';
import { fromNative } from '../native-errors.js';
import type { Origin, OriginInfo, OriginStatus } from '../origin.js';

/** As many as the driver keeps. */
const MAX_HINTS = 64;

export abstract class AnyOrigin implements Origin {
  readonly spec: string;
  abstract readonly size: number;
  protected closed = false;
  #info: Promise<OriginInfo> | undefined;

  constructor(spec: string) {
    this.spec = spec;
  }

  protected abstract newSession(): NativeSession;
  abstract close(): Promise<void>;

  createSession(): NativeSession {
    if (this.closed) {
      throw new SnapbakError('ERR_SNAPBAK_ORIGIN', `the origin ${this.spec} is closed`, { path: this.spec });
    }
    return this.newSession();
  }

  async requestTotals(): Promise<RequestTotals | undefined> {
    return undefined;
  }

  /** Nothing here: sessions flush the lower device of user and embedded drivers. */
  async writeDirtyPages(): Promise<void> {}

  async info(): Promise<OriginInfo> {
    this.#info ??= this.#withSession('ask the driver about the origin', async (session) => ({
      ...(await session.open()),
      spec: this.spec,
    })).catch((error: unknown) => {
      this.#info = undefined;
      throw error;
    });
    return { ...(await this.#info) };
  }

  async status(): Promise<OriginStatus> {
    return this.askStatus('ask for the status of the origin');
  }

  async hint(extents: Iterable<Extent>): Promise<void> {
    const given = checkedHints(extents, this.size);
    if (given.length === 0) return;
    // the newest goes first
    const hints = flatten(given.reverse());
    await this.#withSession('hint at what to copy next', (session) => session.hint(hints));
  }

  protected askStatus(doing: string): Promise<OriginStatus> {
    return this.#withSession(doing, (session) => session.status());
  }

  async #withSession<T>(doing: string, use: (session: NativeSession) => Promise<T>): Promise<T> {
    const session = this.createSession();
    try {
      return await use(session);
    } catch (error) {
      throw fromNative(error, { path: this.spec, doing });
    } finally {
      await session.close().catch(() => {}); // the answer, or the error, is what counts
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function checkedHints(extents: Iterable<Extent>, size: number): Extent[] {
  if (typeof (extents as Partial<Iterable<Extent>> | null)?.[Symbol.iterator] !== 'function') {
    throw new TypeError(`extents must be an iterable of { offset, length }, not ${show(extents)}`);
  }
  const given = [...extents];
  if (given.length > MAX_HINTS) {
    throw new RangeError(`extents must be at most ${MAX_HINTS}, not ${given.length}`);
  }
  for (const [i, extent] of given.entries()) {
    assertExtent(`extents[${i}]`, extent);
    const { offset, length } = extent;
    if (length === 0) throw new RangeError(`extents[${i}].length must be above 0`);
    if (offset + length > size) {
      throw new RangeError(
        `extents[${i}] must end at or before the end of the device (${size} bytes), not at ${offset + length}`,
      );
    }
  }
  return given;
}
