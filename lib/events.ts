/**
 * What a running backup tells: the types, and the bounded queue behind
 * `backup.events()`. Nothing here stands in the path of a write; a consumer
 * that never reads costs a bounded amount of memory and delays nobody.
 */
import type { CloneResult } from './backup/clone-options.js';
import type { UsedPart } from './blocks/used/verdict.js';
import type { SnapbakErrorCode } from './errors.js';
import type { Extent } from './extent.js';
import type { BackupStats } from './stats.js';

/** The point in time is fixed: what is written from now on is not in the backup. */
export interface StartedEvent {
  event: 'started';
  /** The backup's id, as in the manifest. */
  id: string;
  /** The origin, as it was named. */
  origin: string;
  /** The start instant. */
  startedAt: Date;
  /** How long writes were stopped for it, milliseconds. */
  armMs: number;
  /** How long the file systems on the origin were frozen for it, milliseconds; 0: none was. */
  freezeMs: number;
  /** Bytes of the origin, and of a block. */
  size: number;
  blockSize: number;
  listedBlocks: number;
  listedBytes: number;
  /** Of several origins, each; above are sums then, and the longest times. */
  disks?: StartedDisk[];
}

/** One of several origins at the start. */
export interface StartedDisk
  extends Pick<StartedEvent, 'origin' | 'size' | 'listedBlocks' | 'listedBytes' | 'armMs' | 'freezeMs'> {
  /** What it is called in the backup, and in the events of it. */
  name: string;
}

/** Of a backup of several origins: which one it is about. Absent: the only one, or all of them. */
export interface OfDisk {
  disk?: string;
}

/** Unless a list or `all` was asked for: what the file systems on the origin use, as of the start instant. */
export interface BlocksEvent extends OfDisk {
  event: 'blocks';
  /** Bytes that are left in the block list; blocks that were captured meanwhile are among them. */
  listedBytes: number;
  /** What was found where, and what of it is listed. */
  parts: UsedPart[];
  /** How long it took to find out, after the start instant. */
  seconds: number;
}

/** Four times a second; the only event that may be dropped, for a newer one. */
export interface ProgressEvent extends BackupStats {
  event: 'progress';
}

/** Captured blocks went to a second tier, or (`lost`) one failed and was given up. */
export interface SpillEvent extends OfDisk {
  event: 'spill';
  /** Spilled since the last such event, and since the start. */
  blocks: number;
  totalBlocks: number;
  /** Bytes in the second tiers now, and their capacity, without those that are lost. */
  usedBytes: number;
  capacityBytes: number;
  /** A second tier failed; the others, and the slots, go on without it. */
  lost: boolean;
  /** With `lost`: negative errno, and which it was, as in `container.tiers` of the figures. */
  errno?: number;
  tier?: string;
}

/** Writes were delayed, because the container fills faster than it drains. */
export interface ThrottleEvent extends OfDisk {
  event: 'throttle';
  /** Writes delayed since the last such event, and for how long, summed, ms. */
  writes: number;
  ms: number;
  /** Fill of the container, 0 to 1. */
  fill: number;
}

/** Writes were held, because the container was full. */
export interface HoldEvent extends OfDisk {
  event: 'hold';
  /** Writes held since the last such event. */
  writes: number;
  /** Held at this moment. */
  now: number;
  /** The longest that one write was held in this session so far, ms. */
  longestMs: number;
}

/** A block could not be read from the origin; it is not in the backup. */
export interface InvalidBlockEvent extends OfDisk {
  event: 'invalid-block';
  /** Its number, and where it lies. */
  block: number;
  extent: Extent;
  /** Negative errno. */
  errno: number;
  /** Further invalid blocks behind this one that a slow reader is not told one by one. */
  more?: number;
}

/** `afterThaw` failed, or took too long: what was brought to rest may still be. The backup is none the worse. */
export interface HookEvent {
  event: 'hook';
  hook: 'after-thaw';
  code: SnapbakErrorCode;
  message: string;
}

/**
 * Of a backup of several origins, one has ended: `copied` (all of it is in its
 * image, durably; it is good when the manifest says so) or `broken`. The others
 * go on.
 */
export interface DiskEvent {
  event: 'disk';
  /** The backup's id. */
  id: string;
  disk: string;
  state: 'copied' | 'broken';
  /** With `copied`: how many blocks could not be read, and how long it took. */
  invalidBlocks?: number;
  seconds?: number;
  /** With `broken`: why. */
  code?: string;
  message?: string;
  errno?: number;
}

/** Writing to the clone failed, and it was given up: all requests to it fail from now on. The backup goes on. */
export interface CloneLostEvent {
  event: 'clone-lost';
  /** The clone's path. */
  to: string;
  code: SnapbakErrorCode;
  message: string;
  errno?: number;
}

/** The backup is complete and durable. */
export interface FinishedEvent {
  event: 'finished';
  id: string;
  state: 'complete' | 'complete-with-invalid-blocks';
  /** Invalid blocks; their numbers are in the manifest. */
  invalidBlocks: number;
  seconds: number;
  stats: BackupStats;
  /** How the clone ended, where there is one. */
  clone?: CloneResult;
}

/** The session broke, or was aborted; the origin is unharmed, the backup cannot be completed. */
export interface BrokenEvent {
  event: 'broken';
  id: string;
  code: SnapbakErrorCode;
  message: string;
  errno?: number;
}

/** All blocks were copied, but the backup could not be completed. */
export interface ErrorEvent {
  event: 'error';
  id?: string;
  code: string;
  message: string;
  errno?: number;
}

export type BackupEvent =
  | StartedEvent
  | BlocksEvent
  | ProgressEvent
  | SpillEvent
  | ThrottleEvent
  | HoldEvent
  | InvalidBlockEvent
  | HookEvent
  | DiskEvent
  | CloneLostEvent
  | FinishedEvent
  | BrokenEvent
  | ErrorEvent;

/** Invalid blocks that wait for one reader; more are folded into a number. */
export const MAX_INVALID_WAITING = 10_000;

const ONCE: ReadonlySet<string> = new Set(['blocks', 'hook', 'clone-lost']);

/** Fans events out to any number of readers. */
export class EventChannel {
  readonly #tap: (event: BackupEvent) => void;
  readonly #readers = new Set<EventReader>();
  #started: StartedEvent | undefined;
  /** What happens once, of each disk: who comes later has missed it otherwise. */
  readonly #once = new Map<string, BackupEvent>();
  #last: BackupEvent | undefined;

  /** @param tap sees every event, before the readers. */
  constructor(tap: (event: BackupEvent) => void = () => {}) {
    this.#tap = tap;
  }

  /** After `finished`, `broken` or `error`, nothing comes any more. */
  push(event: BackupEvent): void {
    if (this.#last !== undefined) return;
    if (event.event === 'started') this.#started = event;
    if (ONCE.has(event.event)) this.#once.set(`${event.event} ${(event as OfDisk).disk}`, event);
    const last = event.event === 'finished' || event.event === 'broken' || event.event === 'error';
    if (last) this.#last = event;
    this.#tap(event);
    for (const reader of [...this.#readers]) {
      reader.push(event);
      if (last) reader.end();
    }
    if (last) this.#readers.clear();
  }

  /**
   * A reader of its own: `started` first, then what happened once (`blocks`, `hook`,
   * `clone-lost`), then what happens from now on, then the last event.
   */
  reader(): AsyncIterableIterator<BackupEvent> {
    const reader = new EventReader(() => this.#readers.delete(reader));
    if (this.#started !== undefined) reader.push(this.#started);
    for (const event of this.#once.values()) reader.push(event);
    if (this.#last !== undefined) {
      reader.push(this.#last);
      reader.end();
    } else {
      this.#readers.add(reader);
    }
    return reader;
  }
}

/** One reader's queue: at most one unread event of each kind, and the invalid blocks. */
class EventReader implements AsyncIterableIterator<BackupEvent> {
  readonly #leave: () => void;
  #queue: BackupEvent[] = [];
  #waiting: ((result: IteratorResult<BackupEvent>) => void)[] = [];
  #ended = false;
  #invalid = 0;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  push(event: BackupEvent): void {
    if (this.#ended) return;
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) waiting({ done: false, value: event });
    else this.#enqueue(event);
  }

  end(): void {
    this.#ended = true;
    for (const waiting of this.#waiting.splice(0)) waiting({ done: true, value: undefined });
  }

  async next(): Promise<IteratorResult<BackupEvent>> {
    const value = this.#queue.shift();
    if (value !== undefined) {
      if (value.event === 'invalid-block') this.#invalid--;
      return { done: false, value };
    }
    if (this.#ended) return { done: true, value: undefined };
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async return(): Promise<IteratorResult<BackupEvent>> {
    this.#leave();
    this.#queue = [];
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Counts it with the last that waits, of the same disk if there are several; false: there is none. */
  #fold(event: InvalidBlockEvent): boolean {
    const at = this.#queue.findLastIndex(
      (queued) => queued.event === 'invalid-block' && queued.disk === event.disk,
    );
    if (at < 0) return false;
    const last = this.#queue[at] as InvalidBlockEvent;
    this.#queue[at] = { ...last, more: (last.more ?? 0) + 1 + (event.more ?? 0) };
    return true;
  }

  #enqueue(event: BackupEvent): void {
    if (event.event === 'invalid-block') {
      if (this.#invalid < MAX_INVALID_WAITING || !this.#fold(event)) {
        this.#invalid++;
        this.#queue.push(event);
      }
      return;
    }
    const at = this.#queue.findIndex((queued) => merge(queued, event) !== undefined);
    const merged = at < 0 ? undefined : merge(this.#queue[at]!, event);
    if (merged !== undefined) this.#queue.splice(at, 1);
    this.#queue.push(merged ?? event);
  }
}

/** One event for two of a kind; `undefined` where both must be told. */
function merge(older: BackupEvent, newer: BackupEvent): BackupEvent | undefined {
  if ((older as OfDisk).disk !== (newer as OfDisk).disk) return undefined;
  if (older.event === 'progress' && newer.event === 'progress') return newer;
  if (older.event === 'throttle' && newer.event === 'throttle') {
    return { ...newer, writes: older.writes + newer.writes, ms: older.ms + newer.ms };
  }
  if (older.event === 'hold' && newer.event === 'hold') {
    return { ...newer, writes: older.writes + newer.writes };
  }
  if (older.event === 'spill' && newer.event === 'spill' && !older.lost && !newer.lost) {
    return { ...newer, blocks: older.blocks + newer.blocks };
  }
  return undefined;
}
