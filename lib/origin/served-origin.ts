/**
 * An origin that a driver in another process serves; only sessions lead to it.
 */
import type { NativeSession } from '../binding.js';
import { AnyOrigin } from './any-origin.js';

export class ServedOrigin extends AnyOrigin {
  size = 0;
  readonly #connect: () => NativeSession;

  constructor(spec: string, connect: () => NativeSession) {
    super(spec);
    this.#connect = connect;
  }

  protected newSession(): NativeSession {
    return this.#connect();
  }

  async connect(): Promise<void> {
    this.size = (await this.askStatus('open the origin')).size;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
