/**
 * An origin in this process: the face of the embedded driver. Checks the
 * arguments and hands on; the claim protocol is in the addon.
 */
import { expectInside, expectInteger, expectOptions, expectType } from '../arguments.js';
import type { NativeBinding, NativeOrigin, NativeSession } from '../binding.js';
import { SnapbakError } from '../errors.js';
import { show } from '../extent.js';
import { fromNative } from '../native-errors.js';
import type { EmbeddedOrigin, WriteOptions, WriteZeroesOptions } from '../origin.js';
import { AnyOrigin } from './any-origin.js';

/** The most bytes that one `read` or `write` takes. */
export const MAX_TRANSFER = 2 ** 30;

export class LocalOrigin extends AnyOrigin implements EmbeddedOrigin {
  readonly #path: string;
  readonly #native: NativeOrigin;
  readonly #binding: NativeBinding;
  #closing: Promise<void> | undefined;

  constructor(spec: string, path: string, native: NativeOrigin, binding: NativeBinding) {
    super(spec);
    this.#path = path;
    this.#native = native;
    this.#binding = binding;
  }

  get size(): number {
    return this.#native.size;
  }

  protected newSession(): NativeSession {
    return this.#binding.createSession({ origin: this.#native });
  }

  async read(offset: number, length: number): Promise<Buffer> {
    this.#check(offset, length);
    expectInteger('length', length, 0, MAX_TRANSFER);
    if (length === 0) return Buffer.alloc(0);
    return this.#io('read', offset, length, () => this.#native.read(offset, length));
  }

  async write(offset: number, data: Uint8Array, options: WriteOptions = {}): Promise<void> {
    if (!(data instanceof Uint8Array)) throw new TypeError(`data must be a Uint8Array, not ${show(data)}`);
    expectOptions('options', options, ['fua']);
    expectInteger('data.length', data.length, 0, MAX_TRANSFER);
    const fua = flag('options.fua', options.fua, false);
    this.#check(offset, data.length);
    if (data.length === 0) return fua ? this.flush() : undefined;
    return this.#io('write', offset, data.length, () => this.#native.write(offset, data, fua));
  }

  async writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): Promise<void> {
    expectOptions('options', options, ['fua', 'mayTrim']);
    const fua = flag('options.fua', options.fua, false);
    const mayTrim = flag('options.mayTrim', options.mayTrim, true);
    this.#check(offset, length);
    if (length === 0) return fua ? this.flush() : undefined;
    return this.#io('write zeroes to', offset, length, () =>
      this.#native.writeZeroes(offset, length, fua, mayTrim),
    );
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length);
    if (length === 0) return;
    return this.#io('discard', offset, length, () => this.#native.discard(offset, length));
  }

  async flush(): Promise<void> {
    this.#check(0, 0);
    return this.#io('flush', 0, 0, () => this.#native.flush());
  }

  close(): Promise<void> {
    this.closed = true;
    this.#closing ??= this.#native.close().catch((error: unknown) => {
      throw fromNative(error, { path: this.#path, doing: 'close the image' });
    });
    return this.#closing;
  }

  #check(offset: number, length: number): void {
    if (this.closed) {
      throw new SnapbakError('ERR_SNAPBAK_ORIGIN', `the origin ${this.spec} is closed`, { path: this.#path });
    }
    expectInside(offset, length, this.size);
  }

  async #io<T>(doing: string, offset: number, length: number, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      const mapped = fromNative(error, { path: this.#path, doing: `${doing} the image` });
      if (!SnapbakError.is(mapped) || length === 0) throw mapped;
      throw new SnapbakError(mapped.code, `${mapped.message}, at ${offset}, ${length} bytes`, {
        cause: mapped.cause,
        path: mapped.path,
        errno: mapped.errno,
        extent: { offset, length },
      });
    }
  }
}

function flag(name: string, value: boolean | undefined, fallback: boolean): boolean {
  if (value === undefined) return fallback;
  expectType(name, value, 'boolean');
  return value;
}
