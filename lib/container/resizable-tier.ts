/**
 * A second tier whose size changes while a backup uses it. Larger: the space is
 * made first, then blocks may be put there. Smaller: no block is put beyond the
 * new end any more, what lies there is drained to the target before all else in
 * the tier, and only then is the space given back. Writers wait for none of it.
 */
import { SnapbakError } from '../errors.js';
import { assertBytes } from '../extent.js';
import { systemCode, systemError } from '../system-error.js';

/** Moves the end of the tier in the session; see `NativeSession.resizeTier`. */
export type MoveEnd = (capacity: number) => Promise<void>;

/** What is done about the tier's space; absent where there is nothing to do. In bytes, whole blocks. */
export interface TierSpace {
  /** The file or device. */
  path: string;
  /** What it has now. */
  capacity: number;
  /** Makes room up to `to`. */
  extend?(from: number, to: number): Promise<void>;
  /** Gives back what lies beyond `to`. */
  cut?(to: number): Promise<void>;
}

/** The error of a container that keeps its size. */
export function notResized(path: string, reason: string): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_RESIZE', `cannot resize ${path}: ${reason}`, { path });
}

/** One resize that the session was told of. */
interface End {
  capacity: number;
  /** Drained: nothing lies beyond it any more. Refused: the session did not move its end. */
  state: 'asked' | 'drained' | 'refused';
  /** What it replaced, until it is done. */
  before?: End;
}

export class ResizableTier {
  readonly #space: TierSpace;
  readonly #move: MoveEnd;
  /** The space that there is: never less than what the session may use. */
  #capacity: number;
  #asked = 0;
  /** What the session was told last, and did not refuse so far: space is given back for this one alone. */
  #end: End;
  #closed = false;
  /** Whoever touches the space waits for the one before. */
  #turn: Promise<void> = Promise.resolve();

  constructor(space: TierSpace, move: MoveEnd) {
    this.#space = space;
    this.#move = move;
    this.#capacity = space.capacity;
    this.#end = { capacity: space.capacity, state: 'drained' };
  }

  /**
   * Resolves when the tier has this size: smaller, once it is drained and cut.
   * A resize that fails leaves one before it, which still drains, as it was.
   *
   * @throws SnapbakError ERR_SNAPBAK_RESIZE if the space cannot be made, the
   *   tier is lost, another resize comes before it is done, or the backup ends
   */
  async resize(capacity: number): Promise<void> {
    const number = ++this.#asked;
    const end: End = { capacity, state: 'asked' };
    let moved: Promise<void> = Promise.resolve();
    await this.#alone(async () => {
      if (this.#closed || number !== this.#asked) throw this.#overtaken(!this.#closed);
      await this.#extend(capacity);
      end.before = this.#end;
      this.#end = end;
      moved = this.#move(capacity); // in turn, too; but draining takes its time
      moved.catch(() => {});
    });
    try {
      await moved;
    } catch (cause) {
      if (systemCode(cause) === 'ECANCELED') throw this.#overtaken(end !== this.#end);
      await this.#alone(() => this.#takeBack(end));
      throw this.#refused(cause);
    }
    end.state = 'drained';
    await this.#alone(async () => {
      if (this.#closed) return; // with the file all of its space went
      if (end !== this.#end) throw this.#overtaken(true);
      delete end.before;
      await this.#cut(capacity);
    });
  }

  /** The session is over: nobody touches the space any more, once this resolves. */
  async close(): Promise<void> {
    await this.#alone(async () => {
      this.#closed = true;
    });
  }

  async #extend(capacity: number): Promise<void> {
    const { path, extend } = this.#space;
    if (capacity <= this.#capacity) return;
    try {
      await extend?.(this.#capacity, capacity);
    } catch (cause) {
      await this.#space.cut?.(this.#capacity);
      throw systemError('ERR_SNAPBAK_RESIZE', `cannot resize ${path}`, cause, path);
    }
    this.#capacity = capacity;
  }

  async #cut(capacity: number): Promise<void> {
    const { path, cut } = this.#space;
    if (this.#closed || capacity >= this.#capacity) return;
    try {
      await cut?.(capacity);
    } catch (cause) {
      throw systemError('ERR_SNAPBAK_RESIZE', `cannot give the space of ${path} back`, cause, path);
    }
    this.#capacity = capacity;
  }

  /** What was there before counts again; if that is drained, what was made since goes. */
  async #takeBack(end: End): Promise<void> {
    end.state = 'refused';
    if (end !== this.#end) return; // it is another's to say
    while (this.#end.state === 'refused') this.#end = this.#end.before!;
    if (this.#end.state === 'drained') await this.#cut(this.#end.capacity);
  }

  #alone(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  #refused(cause: unknown): SnapbakError {
    if (systemCode(cause) === 'EIO') {
      return notResized(this.#space.path, 'it failed, and is used no more');
    }
    return systemError('ERR_SNAPBAK_RESIZE', `cannot resize ${this.#space.path}`, cause, this.#space.path);
  }

  #overtaken(another: boolean): SnapbakError {
    return notResized(
      this.#space.path,
      another ? 'it was resized again before that was done' : 'the backup ended before that was done',
    );
  }
}

/** The backups that use a container at this moment, and how each resizes it. */
export class ResizeUsers {
  readonly #path: string;
  readonly #users = new Set<(bytes: number) => Promise<void>>();

  constructor(path: string) {
    this.#path = path;
  }

  /** @returns what to call when the backup is over */
  add(resize: (bytes: number) => Promise<void>): () => void {
    this.#users.add(resize);
    return () => this.#users.delete(resize);
  }

  /** @throws TypeError or RangeError for what is no number of bytes; SnapbakError ERR_SNAPBAK_RESIZE */
  async resize(bytes: number): Promise<void> {
    assertBytes('bytes', bytes, 1);
    if (this.#users.size === 0) {
      throw notResized(this.#path, 'no backup uses it; resize it between the start and the end of one');
    }
    await Promise.all([...this.#users].map((resize) => resize(bytes)));
  }
}
