/**
 * What all kinds of origin have in common: sessions on it, and a memory of
 * what the driver said about it.
 */
import type { NativeSession } from '../binding.js';
import { SnapbakError } from '../errors.js';
import type { RequestTotals } from '../host.js';
import { fromNative } from '../native-errors.js';
import type { Origin, OriginInfo, OriginStatus } from '../origin.js';

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

  /** Nothing here: START flushes the lower device of user and embedded drivers. */
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
