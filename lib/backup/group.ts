/**
 * Several origins as one backup: each has a session and a sweep of its own, and
 * they have the start instant, the rate, the events and the manifest in common.
 * One that breaks ends no other; the whole is good only if all are.
 */
import type { Backup } from '../backup.js';
import { publish } from '../diagnostics.js';
import type { SnapbakError } from '../errors.js';
import { type BackupEvent, EventChannel } from '../events.js';
import { type Extent, show } from '../extent.js';
import { copies, sumStats } from '../group-stats.js';
import type { GroupManifest } from '../manifest.js';
import type { BackupStats } from '../stats.js';
import { abortedError, type EndState, endEvent, hookEvent } from './failure.js';
import {
  type GroupParts,
  groupFailure,
  type Member,
  ofDisk,
  startedEvent,
  unsealed,
} from './group-events.js';
import { checkRate } from './options.js';
import type { BackupResult, BackupState, DiskResult } from './running.js';
import type { PointInTimeView } from './view.js';

export class BackupGroup implements Backup<GroupManifest> {
  readonly id: string;
  readonly startedAt: Date;
  readonly exportUri = undefined;
  readonly clone = undefined;
  readonly finished: Promise<BackupResult<GroupManifest>>;
  readonly #parts: GroupParts;
  readonly #members: Member[];
  readonly #channel: EventChannel;
  /** Not at their end yet: they can be given up. */
  readonly #running = new Set<Member>();
  readonly #onSignal = () => this.#give(this.#parts.signal?.reason);
  #rate: number | undefined;
  #paused = false;
  #end: BackupState | undefined;
  #aborted: SnapbakError | undefined;

  constructor(parts: GroupParts) {
    this.#parts = parts;
    this.id = parts.id;
    this.startedAt = parts.startedAt;
    this.#rate = parts.rate;
    const specs = parts.disks.map(({ spec }) => spec);
    const specOf = new Map(parts.disks.map(({ plan, spec }) => [plan.name, spec]));
    this.#channel = new EventChannel((event) => {
      const disk = 'disk' in event ? event.disk : undefined;
      publish(this.id, (disk === undefined ? undefined : specOf.get(disk)) ?? specs.join(', '), event);
    });
    // afterThaw is told of once
    const thawed = parts.thawed.then(() => undefined);
    this.#members = parts.disks.map((disk) => ({
      name: disk.plan.name,
      spec: disk.spec,
      backup: disk.run({
        id: parts.id,
        createdAt: parts.createdAt,
        thawed,
        rate: this.#share(parts.disks.length),
        signal: undefined,
        tell: (event) => this.#take(disk.plan.name, event),
        onStopped: () => this.#shareOut(),
      }),
    }));
    this.finished = this.#run();
    this.finished.catch(() => {}); // whoever does not listen must not die of it
  }

  /** Tells that the point in time is fixed, and lets the sweeps begin. */
  begin(): this {
    const { signal, disks, thawed } = this.#parts;
    signal?.addEventListener('abort', this.#onSignal, { once: true });
    this.#channel.push(startedEvent(this.#parts, this.#members, this.stats()));
    void thawed.then((error) => {
      if (error !== undefined) this.#channel.push(hookEvent(error));
    });
    for (const { backup } of this.#members) backup.begin();
    for (const [i, { backup }] of this.#members.entries()) disks[i]!.passNotices(backup);
    if (signal?.aborted) this.#onSignal(); // it tells nobody any more
    return this;
  }

  get state(): BackupState {
    if (this.#end !== undefined) return this.#end;
    if (this.#copying.length === 0) return 'finishing';
    return this.#paused ? 'paused' : 'running';
  }

  stats(): BackupStats {
    return sumStats(
      this.#members.map(({ name, backup }) => ({ name, state: backup.state, stats: backup.stats() })),
    );
  }

  events(): AsyncIterableIterator<BackupEvent> {
    return this.#channel.reader();
  }

  prioritize(extents: Iterable<Extent>, disk?: string): void {
    this.#member(disk).backup.prioritize(extents);
  }

  pause(): void {
    if (this.state !== 'running') return;
    this.#paused = true;
    for (const { backup } of this.#members) backup.pause();
  }

  resume(): void {
    this.#paused = false;
    for (const { backup } of this.#members) backup.resume();
  }

  setRate(bytesPerSecond: number | undefined): void {
    checkRate('bytesPerSecond', bytesPerSecond);
    this.#rate = bytesPerSecond;
    this.#shareOut();
  }

  async view(disk?: string): Promise<PointInTimeView> {
    return await this.#member(disk).backup.view();
  }

  async abort(reason?: unknown): Promise<void> {
    this.#give(reason);
    await this.finished.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort('its owner went out of scope');
  }

  /** One that is being completed, or waits for `afterThaw`, copies no more. */
  get #copying(): Member[] {
    return this.#members.filter(({ backup }) => copies(backup.state));
  }

  #member(disk: string | undefined): Member {
    const found = this.#members.find(({ name }) => name === disk);
    if (found !== undefined) return found;
    const names = this.#members.map(({ name }) => name).join(', ');
    throw new RangeError(`disk must be one of ${names}, not ${show(disk)}`);
  }

  /** What a disk's own backup tells becomes the group's event of that disk. */
  #take(name: string, event: BackupEvent): void {
    if (event.event === 'progress') {
      // of all at once, as often as one of them tells it that goes on doing so
      const [first] = this.#copying;
      if (first?.name === name) this.#channel.push({ event: 'progress', ...this.stats() });
      return;
    }
    const told = ofDisk(name, event);
    if (told !== undefined) this.#channel.push(told);
  }

  #share(copying: number): number | undefined {
    return this.#rate === undefined ? undefined : Math.max(1, Math.floor(this.#rate / Math.max(1, copying)));
  }

  /** Evenly among those that copy: what one does not need any more is the others'. */
  #shareOut(): void {
    const copying = this.#copying;
    const share = this.#share(copying.length);
    for (const { backup } of copying) backup.setRate(share);
  }

  /** Each knows for itself whether it is too late, because it is being committed; the whole is as good as they are. */
  #give(reason: unknown): void {
    if (this.#running.size === 0) return;
    this.#aborted ??= abortedError(reason);
    for (const { backup } of this.#running) void backup.abort(reason);
  }

  async #run(): Promise<BackupResult<GroupManifest>> {
    const ends = this.#members.map(async (member) => {
      this.#running.add(member);
      try {
        return await member.backup.finished;
      } finally {
        this.#running.delete(member);
      }
    });
    const results = await Promise.allSettled(ends);
    this.#channel.push({ event: 'progress', ...this.stats() }); // the last figures: of what was copied to the end
    await this.#parts.thawed;
    try {
      return await this.#complete(results);
    } finally {
      this.#parts.signal?.removeEventListener('abort', this.#onSignal);
      await this.#parts.target.close().catch(() => {}); // a manifest that is durable is, whatever closing says
    }
  }

  async #complete(results: PromiseSettledResult<BackupResult>[]): Promise<BackupResult<GroupManifest>> {
    const failures = results.flatMap((result, i) =>
      result.status === 'rejected' ? [{ member: this.#members[i]!, error: result.reason as Error }] : [],
    );
    const stats = this.stats();
    if (failures.length > 0) {
      const states = failures.map(({ member }) => member.backup.state);
      // an abort that came too late for all of them has ended nothing
      const aborted = states.includes('aborted') ? this.#aborted : undefined;
      const broken = states.some((state) => state !== 'failed');
      const state = aborted !== undefined ? 'aborted' : broken ? 'broken' : 'failed';
      const error = aborted ?? groupFailure(failures, this.#members);
      const sealed = await this.#seal(error).catch((also: Error) => also);
      throw this.#fail(state, sealed instanceof Error ? unsealed(error, sealed) : error);
    }
    const manifest = await this.#seal().catch((error: Error) => {
      throw this.#fail('failed', error);
    });
    const state = manifest.state as BackupResult['state'];
    const disks = results.map((result, i): DiskResult => {
      const { name, spec } = this.#members[i]!;
      const { state, stats, invalidBlocks, seconds } = (result as PromiseFulfilledResult<BackupResult>).value;
      return { name, origin: spec, state, stats, invalidBlocks, seconds };
    });
    const { id } = this;
    const { seconds, invalidBlocks } = stats;
    this.#end = 'finished';
    this.#channel.push({ event: 'finished', id, state, invalidBlocks, seconds, stats });
    const invalid = disks.flatMap((disk) => disk.invalidBlocks);
    return { id, state, manifest, stats, invalidBlocks: invalid, seconds, disks };
  }

  async #seal(error?: SnapbakError) {
    const { id, createdAt, startedAt, target } = this.#parts;
    return await target.seal({
      id,
      createdAt: createdAt.toISOString(),
      startedAt: startedAt.toISOString(),
      finishedAt: new Date().toISOString(),
      ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
    });
  }

  #fail(state: EndState, error: Error): Error {
    this.#end = state;
    this.#channel.push(endEvent(this.id, state, error));
    return error;
  }
}
