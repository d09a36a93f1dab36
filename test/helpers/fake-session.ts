/**
 * The addon's faces without the addon: a session, an origin and a binding that
 * do what a test tells them, and write down what was asked of them.
 */
import type {
  NativeBinding,
  NativeCounters,
  NativeExportable,
  NativeHeat,
  NativeNotice,
  NativeOrigin,
  NativeOriginInfo,
  NativePrepareOptions,
  NativeSession,
  NativeStats,
  NativeStatus,
  NativeThrottle,
} from '../../lib/binding.js';
import type { Container, OpenContainer } from '../../lib/container/container.js';
import { BUCKETS } from '../../lib/histogram.js';
import { type GroupManifest, groupManifest, type Manifest, type ManifestDraft } from '../../lib/manifest.js';
import type { Origin } from '../../lib/origin.js';
import type { BackupTarget, PreparedGroup, PreparedTarget, TargetContext } from '../../lib/target/target.js';

/** What the addon throws. */
export function nativeError(errno: number, stage: string): Error {
  return Object.assign(new Error(`${stage} failed`), { errno: -Math.abs(errno), stage });
}

export const MiB = 2 ** 20;

const NO_COUNTERS: NativeCounters = {
  captured: 0,
  captureNs: 0,
  invalid: 0,
  held: 0,
  heldNow: 0,
  heldNs: 0,
  heldMaxNs: 0,
  wanted: 0,
  delayed: 0,
  delayedNs: 0,
  waited: 0,
  discardsDropped: 0,
  eagain: 0,
  slotsUsed: 0,
  protocolErrors: 0,
  delayedNow: 0,
  captureMaxNs: 0,
  delayedMaxNs: 0,
  io: 0,
  ioNs: 0,
  hints: 0,
};

function noTimes(): Float64Array {
  return new Float64Array(BUCKETS);
}

export function fakeInfo(size = 16 * MiB): NativeOriginInfo {
  return {
    size,
    sectorSize: 512,
    isBlockDevice: false,
    id: 'fake-disk',
    dev: 0,
    lowerDev: 0,
    lowerInode: 1,
    lowerFsDev: 2,
    lowerOffset: 0,
    driver: 'user',
    driverVersion: '0.0.0-fake',
    abiVersion: 1,
    features: 0,
    maxSlots: 2 ** 20,
    minBlockSize: 4096,
    maxBlockSize: MiB,
  };
}

type Step =
  | 'open'
  | 'status'
  | 'hint'
  | 'prepare'
  | 'flush'
  | 'start'
  | 'resizeTier'
  | 'openView'
  | 'finish'
  | 'abort'
  | 'close';

export class FakeSession implements NativeSession {
  /** Every call, in order. */
  readonly calls: string[] = [];
  readonly work: { extents: number[]; priority: boolean }[] = [];
  throttle: NativeThrottle | undefined;
  /** What `takeHints()` answers: offset, length, … */
  readonly hints: number[] = [];
  info = fakeInfo();
  prepared: NativePrepareOptions | undefined;
  /** Steps that fail, and with what. */
  readonly failing = new Map<Step, Error>();
  /** Steps that wait for a promise of the test. */
  readonly waiting = new Map<Step, Promise<void>>();
  /** What `stats()` answers, besides what follows from `prepare()`. */
  figures: Partial<Omit<NativeStats, 'counters'>> = {};
  counters: Partial<NativeCounters> = {};
  startTime = Date.UTC(2030, 0, 2, 3, 4, 5);

  constructor(readonly log: string[] = []) {
    this.view = new FakeExportable(log);
  }

  /** As the copy threads would. */
  notify(notice: NativeNotice): void {
    if (this.prepared === undefined) throw new Error('notify() before prepare()');
    this.prepared.onNotice(notice);
  }

  async open() {
    await this.#step('open');
    return this.info;
  }

  async status(): Promise<NativeStatus> {
    await this.#step('status');
    return {
      state: 'new',
      reason: 'none',
      errno: 0,
      id: this.info.id,
      size: this.info.size,
      blockSize: 0,
      slots: 0,
      blocks: 0,
      pendingBlocks: 0,
      startTime: 0,
      armNs: 0,
      freezeNs: 0,
      counters: { ...NO_COUNTERS },
    };
  }

  async prepare(options: NativePrepareOptions): Promise<void> {
    this.prepared = options;
    await this.#step('prepare');
  }

  async flush(): Promise<void> {
    await this.#step('flush');
  }

  async start(timeoutMs: number) {
    await this.#step('start', `${timeoutMs}`);
    this.onStart?.();
    return { startTime: this.startTime, armNs: 1_500_000, freezeNs: 2_500_000 };
  }

  /** Each starts by its own `start()`; if one fails, so do the others. */
  startTogether(sessions: readonly NativeSession[], timeoutMs: number) {
    this.#note(`startTogether ${sessions.length}`);
    const all = sessions.map((session) => session.start(timeoutMs));
    return all.map(async (one, i) => {
      const answer = await one;
      const others = await Promise.allSettled(all.filter((_, other) => other !== i));
      if (others.some(({ status }) => status === 'rejected')) throw nativeError(125, 'start'); // ECANCELED
      return answer;
    });
  }

  pushWork(extents: Float64Array, priority: boolean): number {
    this.work.push({ extents: [...extents], priority });
    return extents.reduce((sum, value, i) => (i % 2 === 1 ? sum + value : sum), 0);
  }

  async hint(extents: Float64Array): Promise<void> {
    await this.#step('hint', `${[...extents]}`);
  }

  takeHints(): Float64Array {
    return Float64Array.from(this.hints.splice(0));
  }

  /** Called at START. */
  onStart: (() => void) | undefined;
  /** What `heat()` answers. */
  heated: NativeHeat = { regionSize: 0, now: 0, ticks: new Uint32Array() };

  heat(): NativeHeat {
    return this.heated;
  }

  nextPending(offset: number): number {
    return offset;
  }

  setPaused(paused: boolean): void {
    this.#note(paused ? 'pause' : 'resume');
  }

  setThrottle(throttle: NativeThrottle): void {
    this.throttle = throttle;
  }

  async resizeTier(tier: number, bytes: number): Promise<void> {
    await this.#step('resizeTier', `${tier} ${bytes}`);
  }

  /** All of it is taken, as nobody captures anything here. */
  unlist(extents: Float64Array): Float64Array {
    this.#note(`unlist ${[...extents]}`);
    return extents;
  }

  /** What `openView()` gives. */
  readonly view: FakeExportable;

  async openView(): Promise<NativeExportable> {
    await this.#step('openView');
    return this.view;
  }

  stats(): NativeStats {
    const blockSize = this.prepared?.blockSize ?? 65_536;
    const listed = this.prepared?.listed ?? new Float64Array();
    let bytes = 0;
    for (let i = 1; i < listed.length; i += 2) bytes += listed[i]!;
    return {
      listedBlocks: Math.ceil(bytes / blockSize),
      doneBlocks: 0,
      invalidBlocks: 0,
      safeBlocks: 0,
      sweptBlocks: 0,
      capturedBlocks: 0,
      wantedBlocks: 0,
      zeroBlocks: 0,
      droppedBytes: 0,
      readBytes: 0,
      writtenBytes: 0,
      spilledBlocks: 0,
      queuedWorkBytes: 0,
      slotsTotal: this.prepared?.slots ?? 0,
      slotsUsed: 0,
      tier2Total: 0,
      tier2Used: 0,
      tiers: [],
      state: 'armed',
      reason: 'none',
      startTime: this.startTime,
      armNs: 1_500_000,
      freezeNs: 2_500_000,
      bufferBytes: 0,
      memoryLocked: true,
      histograms: { capture: noTimes(), delay: noTimes(), hold: noTimes() },
      ...this.figures,
      counters: { ...NO_COUNTERS, ...this.counters },
    };
  }

  async finish() {
    await this.#step('finish');
  }

  async abort() {
    await this.#step('abort');
  }

  async close() {
    await this.#step('close');
  }

  async #step(step: Step, detail = ''): Promise<void> {
    this.#note(detail === '' ? step : `${step} ${detail}`);
    await this.waiting.get(step);
    const error = this.failing.get(step);
    if (error !== undefined) throw error;
  }

  #note(call: string): void {
    this.calls.push(call);
    this.log.push(`session.${call}`);
  }
}

/** A device of which each byte is the lowest byte of its offset. */
export class FakeExportable implements NativeExportable {
  error: Error | undefined;

  constructor(private readonly log: string[] = []) {}

  async read(offset: number, length: number): Promise<Buffer> {
    this.log.push(`view.read ${offset} ${length}`);
    if (this.error !== undefined) throw this.error;
    return Buffer.from(Array.from({ length }, (_, i) => (offset + i) % 256));
  }

  serve(): number[] {
    return [];
  }

  async close(): Promise<void> {
    this.log.push('view.close');
  }
}

/** An origin with one session that the test holds. */
export function fakeOrigin(session: FakeSession, spec = 'unix:/run/fake.control'): Origin {
  return {
    spec,
    size: session.info.size,
    info: async () => ({ ...session.info, spec }),
    status: () => session.status(),
    hint: async () => {},
    close: async () => {},
    writeDirtyPages: async () => {
      session.log.push('origin.writeDirtyPages');
    },
    requestTotals: async () => undefined,
    createSession: () => session,
    [Symbol.asyncDispose]: async () => {},
  };
}

/** A container that writes down that it was opened and closed. */
export function fakeContainer(log: string[], open: Partial<OpenContainer> = {}): Container {
  return {
    description: 'a fake container',
    async open() {
      log.push('container.open');
      return {
        slots: 64,
        async close() {
          log.push('container.close');
        },
        ...open,
      };
    },
  };
}

/** A target that keeps its manifests. */
export class FakeTarget implements BackupTarget {
  readonly description = 'a fake target';
  committed: ManifestDraft | undefined;
  failed: ManifestDraft | undefined;
  closed = 0;
  prepareError: Error | undefined;
  commitError: Error | undefined;
  native: PreparedTarget['native'] = { fd: 1, fresh: true };

  constructor(readonly log: string[] = []) {}

  /** The manifest of several, once it was written. */
  sealed: GroupManifest | undefined;
  sealError: Error | undefined;
  /** What the commit of a disk waits for, by its name. */
  readonly committing = new Map<string, Promise<void>>();

  async prepareGroup(disks: readonly { name: string; context: TargetContext }[]): Promise<PreparedGroup> {
    this.log.push(`target.prepareGroup ${disks.map(({ name }) => name)}`);
    if (this.prepareError !== undefined) throw this.prepareError;
    const told = (name: string, { id, createdAt, startedAt, finishedAt, ...rest }: ManifestDraft) => ({
      name,
      ...rest,
      image: { kind: 'file', name: `${name}.img` } as const,
      checksums: { name: `${name}.checksums`, algorithm: 'crc32c', sha256: '0'.repeat(64) } as const,
    });
    return {
      disks: disks.map(({ name }) => ({
        native: this.native,
        checksumsFd: 2,
        image: { kind: 'file', name: `${name}.img` },
        commit: async (draft) => {
          this.log.push(`${name}.commit`);
          await this.committing.get(name);
          if (this.commitError !== undefined) throw this.commitError;
          return told(name, draft);
        },
        fail: async (draft) => told(name, draft),
        close: async () => void this.log.push(`${name}.close`),
      })),
      seal: async (draft, disks) => {
        this.log.push('target.seal');
        if (this.sealError !== undefined) throw this.sealError;
        this.sealed = groupManifest(draft, disks);
        return this.sealed;
      },
      close: async () => void this.log.push('target.close'),
    };
  }

  async prepare(): Promise<PreparedTarget> {
    this.log.push('target.prepare');
    if (this.prepareError !== undefined) throw this.prepareError;
    return {
      native: this.native,
      checksumsFd: 2,
      image: { kind: 'custom' },
      commit: async (draft) => {
        this.log.push('target.commit');
        if (this.commitError !== undefined) throw this.commitError;
        this.committed = draft;
        return {
          formatVersion: 1,
          tool: { name: 'snapbak', version: '0.0.0' },
          ...draft,
          image: { kind: 'custom' },
          checksums: { name: 'checksums', algorithm: 'crc32c', sha256: '0'.repeat(64) },
        } satisfies Manifest;
      },
      fail: async (draft) => {
        this.log.push('target.fail');
        this.failed = draft;
      },
      close: async () => {
        this.log.push('target.close');
        this.closed++;
      },
    };
  }
}

/** A device in memory behind the embedded driver's face. */
export class FakeNativeOrigin implements NativeOrigin {
  readonly isBlockDevice = false;
  readonly calls: string[] = [];
  readonly bytes: Buffer;
  error: Error | undefined;

  constructor(readonly size: number) {
    this.bytes = Buffer.alloc(size);
  }

  async read(offset: number, length: number) {
    this.#note(`read ${offset} ${length}`);
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }

  async write(offset: number, data: Uint8Array, fua: boolean) {
    this.#note(`write ${offset} ${data.length} ${fua}`);
    this.bytes.set(data, offset);
  }

  async writeZeroes(offset: number, length: number, fua: boolean, mayTrim: boolean) {
    this.#note(`writeZeroes ${offset} ${length} ${fua} ${mayTrim}`);
    this.bytes.fill(0, offset, offset + length);
  }

  async discard(offset: number, length: number) {
    this.#note(`discard ${offset} ${length}`);
  }

  async flush() {
    this.#note('flush');
  }

  async close() {
    this.#note('close');
  }

  #note(call: string): void {
    this.calls.push(call);
    if (this.error !== undefined) throw this.error;
  }
}

/** A binding of which the test says what it holds; everything else throws. */
export function fakeBinding(parts: Partial<NativeBinding>): NativeBinding {
  return new Proxy(parts as NativeBinding, {
    get(target, name) {
      const found = target[name as keyof NativeBinding];
      if (found === undefined) throw new Error(`the test does not expect binding.${String(name)}`);
      return found;
    },
  });
}
