/**
 * What the application may do around the start instant: `beforeFreeze` brings
 * it to rest, `afterThaw` lets it go on. Both have a bounded time. Neither can
 * keep anything frozen: freeze and thaw are both inside START, which calls
 * nobody.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SnapbakError, type SnapbakErrorCode } from '../errors.js';
import { abortedError } from './failure.js';

/** What both hooks are told. */
export interface HookContext {
  /** The backup's id, as in the manifest. */
  id: string;
  /** The origin, as it was named; several, with spaces between them. */
  origin: string;
  /** The same, one by one. */
  origins: readonly string[];
  /** Aborts when the hook's time is over, and for `beforeFreeze` when the backup is aborted. */
  signal: AbortSignal;
}

/** What `afterThaw` is told besides. */
export interface ThawContext extends HookContext {
  /** True: the point in time was fixed. */
  started: boolean;
  /** With `started`: the start instant. */
  startedAt?: Date;
  /** With `started`: how long writes stood still, and file systems were frozen (0: none was), milliseconds. */
  armMs?: number;
  freezeMs?: number;
  /** Without `started`: why the start was given up. */
  error?: Error;
}

export type BeforeFreeze = (context: HookContext) => Promise<void> | void;
export type AfterThaw = (context: ThawContext) => Promise<void> | void;

/** What START answered. */
export interface Instant {
  startedAt: Date;
  armMs: number;
  freezeMs: number;
}

export interface HooksOptions {
  beforeFreeze?: BeforeFreeze | undefined;
  afterThaw?: AfterThaw | undefined;
  /** Milliseconds for each. */
  hookTimeout: number;
  id: string;
  /** As they were named. */
  origins: readonly string[];
  signal?: AbortSignal | undefined;
  /** A hook that was told to stop has so long to do it, milliseconds. */
  grace?: number;
}

/** The default of {@link HooksOptions.grace}. */
export const GRACE_MS = 5000;

export class Hooks {
  readonly #options: HooksOptions;
  #thawed: Promise<SnapbakError | undefined> = Promise.resolve(undefined);

  constructor(options: HooksOptions) {
    this.#options = options;
  }

  get #origin(): string {
    return this.#options.origins.join(' ');
  }

  /** There is something to run before START. */
  get quiesces(): boolean {
    return this.#options.beforeFreeze !== undefined;
  }

  /** Resolves when `afterThaw`, if it was called, has ended: with its error if it failed. Never rejects. */
  get thawed(): Promise<SnapbakError | undefined> {
    return this.#thawed;
  }

  /**
   * `beforeFreeze`, then `start`, then `afterThaw`, which is not waited for
   * where the start went well. What was brought to rest is let go whatever
   * happens: once `beforeFreeze` was called, `afterThaw` is.
   *
   * @throws SnapbakError `ERR_SNAPBAK_HOOK` or `_ABORTED`, and what `start` throws.
   */
  async around(start: () => Promise<Instant>): Promise<Instant> {
    try {
      await this.#before();
      const instant = await start();
      this.#thaw({ started: true, ...instant });
      return instant;
    } catch (error) {
      this.#thaw({ started: false, error: error as Error });
      const failed = await this.#thawed;
      throw failed === undefined ? error : alsoNotThawed(error, failed);
    }
  }

  async #before(): Promise<void> {
    const { beforeFreeze, signal } = this.#options;
    if (beforeFreeze === undefined) return;
    const what = `the backup of ${this.#origin} was not started: beforeFreeze`;
    // one that comes to its end later, although it was given up, may hold what afterThaw did not find
    const late = (error: Error) => this.#thaw({ started: false, error });
    await this.#run(what, (told) => beforeFreeze(told), signal, late);
  }

  #thaw(how: Pick<ThawContext, 'started' | 'error' | keyof Instant>): void {
    const { afterThaw } = this.#options;
    if (afterThaw === undefined) return;
    const what = `what was brought to rest for the backup of ${this.#origin} may not have been let go: afterThaw`;
    this.#thawed = this.#run(what, (told) => afterThaw({ ...told, ...how })).then(
      () => undefined,
      (error: SnapbakError) => error,
    );
  }

  /** Calls a hook, and waits for it as long as it may take, and a little longer for it to stop. */
  async #run(
    what: string,
    call: (told: HookContext) => Promise<void> | void,
    outer?: AbortSignal,
    onLateEnd?: (why: Error) => void,
  ): Promise<void> {
    const { id, origins, hookTimeout, grace = GRACE_MS } = this.#options;
    const stop = new AbortController();
    const end = new AbortController();
    let why: SnapbakError | undefined;
    const give = (error: SnapbakError) => {
      why ??= error;
      stop.abort(why);
    };
    const late = () => give(hookError(`${what} did not end within ${hookTimeout} ms`));
    const timer = setTimeout(late, hookTimeout);
    const onAbort = () => give(abortedError(outer?.reason));
    outer?.addEventListener('abort', onAbort, { once: true });
    const stopped = new Promise<void>((resolve) => {
      stop.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    let ended = false;
    const called = (async () => call({ id, origin: this.#origin, origins, signal: stop.signal }))().finally(
      () => {
        ended = true;
      },
    );
    called.catch(() => {}); // told below, or too late to matter
    if (outer?.aborted) onAbort(); // it tells nobody any more
    try {
      await Promise.race([called, stopped.then(() => sleep(grace, undefined, { signal: end.signal }))]);
    } catch (error) {
      why ??= hookError(`${what} failed: ${error instanceof Error ? error.message : String(error)}`, error);
    } finally {
      clearTimeout(timer);
      outer?.removeEventListener('abort', onAbort);
      end.abort();
    }
    if (why === undefined) return;
    const given = why;
    if (!ended && onLateEnd !== undefined) void called.catch(() => {}).then(() => onLateEnd(given));
    throw given;
  }
}

function hookError(message: string, cause?: unknown): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_HOOK', message, { cause });
}

/** The first error counts; that the application may still stand still must not be lost. */
export function alsoNotThawed(error: unknown, failed: SnapbakError): Error {
  if (!SnapbakError.is(error)) return error as Error;
  const { path, errno, extent } = error;
  return new SnapbakError(error.code as SnapbakErrorCode, `${error.message}; ${failed.message}`, {
    ...{ cause: error, path, errno, extent },
  });
}
