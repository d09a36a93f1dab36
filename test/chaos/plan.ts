/**
 * What happens in a session, drawn from `seed` and its number alone: the
 * origin, the writers, the backup's options, what fails and when. The threads
 * and processes that carry it out run free.
 */
import { Draw } from './draw.js';
import type { Rule } from './fault-table.js';

export type Driver = 'embedded' | 'user';
export type Place = 'origin' | 'target' | 'checksums' | 'manifest' | 'tier' | 'control';

/** A rule for system calls on a place, which gets its path when the session is set up. */
export type Fault = Omit<Rule, 'path'> & { place: Place; afterMs: number; name: string };

/** What the library is told to do, so long after the start instant. */
export type Action = { afterMs: number } & (
  | { do: 'prioritize'; offset: number; length: number }
  | { do: 'pause'; forMs: number }
  | { do: 'rate'; rate: number | undefined }
  | { do: 'resize'; blocks: number }
  | { do: 'abort' }
  | { do: 'close-origin' }
);

/** What happens to a process. */
export interface Blow {
  what: 'kill-library' | 'stop-library' | 'exit-library' | 'end-worker' | 'kill-driver';
  /** After the library was told to begin, or after the start instant. */
  since: 'order' | 'started';
  afterMs: number;
  /** How long it stands still. */
  forMs: number;
}

export interface Target {
  kind: 'directory' | 'device' | 'script';
  /** Of one written in JavaScript: how long each write takes. */
  delayMs: number;
  /** Whether it takes checksums. */
  checksums: boolean;
  /** What goes wrong with one written in JavaScript. */
  fails: 'never' | 'write' | 'flush' | 'checksums' | 'manifest' | 'close' | 'silence';
  /** The write that fails, or is never answered. */
  at: number;
}

export interface Plan {
  seed: number;
  index: number;
  driver: Driver;
  /** The main thing that goes wrong. */
  disaster: Disaster;
  blockSize: number;
  size: number;
  /** The origin is a loop device. */
  onDevice: boolean;
  /** Areas of the origin that are holes at first: offset and length, bytes. */
  holes: [number, number][];
  writers: number;
  /** Between two requests of a writer at most, and the longest request. */
  pauseMs: number;
  longest: number;
  /** Extents; absent: all. */
  list: [number, number][] | undefined;
  slots: number;
  /** Blocks of each second tier. */
  tiers: number[];
  /** The second tier is a loop device. */
  tierDevice: boolean;
  target: Target;
  watermarks: { low: number; high: number; full: number; drainTo: number } | undefined;
  onFull: 'break' | 'hold';
  holdTimeout: number;
  stallTimeout: number;
  maxDelay: number;
  rate: number | undefined;
  faults: Fault[];
  actions: Action[];
  blow: Blow | undefined;
  /** Given up after so long, if nothing ended it. */
  patienceMs: number;
}

const FAIL_READS = { ops: ['read'], effect: 'error', errno: 'EIO' } satisfies Partial<Fault>;
const FAIL_WRITES = { ops: ['write'], effect: 'error' } satisfies Partial<Fault>;

/** How often each disaster comes, with both drivers. */
const DISASTERS = {
  none: 14,
  'bad-blocks': 10,
  'origin-reads': 4,
  'origin-writes': 5,
  'target-retried': 6,
  'target-fails': 10,
  'target-sync': 3,
  'checksums-fail': 3,
  'manifest-fails': 4,
  'tier-writes': 5,
  'tier-reads': 6,
  script: 10,
  overload: 10,
  abort: 5,
  'kill-library': 8,
  'exit-library': 2,
  'end-worker': 3,
} as const;
const OF_DRIVER = {
  embedded: { ...DISASTERS, 'close-origin': 3 },
  user: { ...DISASTERS, 'stop-library': 5, sever: 7, 'kill-driver': 8 },
} as const;
export type Disaster = keyof typeof OF_DRIVER.embedded | keyof typeof OF_DRIVER.user;

/** The session of that number. */
export function planOf(seed: number, index: number, drivers: readonly Driver[]): Plan {
  const draw = new Draw(seed, index);
  const driver = drivers[index % drivers.length]!;
  const disaster = draw.weighted<Disaster>(OF_DRIVER[driver]);
  const plan = quietPlan(draw, { seed, index, driver, disaster });
  addNoise(draw, plan);
  addDisaster(draw, plan);
  return plan;
}

/** A backup of the same origin with nothing to stop it. */
export function cleanPlan(plan: Plan): Plan {
  return {
    ...plan,
    disaster: 'none',
    slots: 32,
    tiers: [],
    target: { ...plan.target, kind: 'directory', fails: 'never' },
    watermarks: undefined,
    onFull: 'break',
    holdTimeout: 60_000,
    stallTimeout: 0,
    rate: undefined,
    faults: [],
    actions: [],
    blow: undefined,
    patienceMs: 60_000,
  };
}

function extents(draw: Draw, size: number, most: number): [number, number][] {
  return Array.from({ length: draw.int(1, most) }, () => {
    const offset = draw.int(0, size - 1);
    return [offset, draw.int(1, Math.min(size - offset, Math.ceil(size / 2)))];
  });
}

function quietPlan(draw: Draw, identity: Pick<Plan, 'seed' | 'index' | 'driver' | 'disaster'>): Plan {
  const blockSize = draw.pick([4096, 8192, 16_384, 65_536]);
  const blocks = draw.int(24, Math.min(400, 2 ** 22 / blockSize));
  const onDevice = draw.chance(0.06);
  const short = onDevice || draw.chance(0.5) ? 0 : draw.int(1, blockSize - 1);
  const size = blocks * blockSize - short;
  const hold = draw.chance(0.3);
  const slots = draw.pick([1, 2, 4, 8, 16]);
  const full = draw.int(1, slots);
  const high = draw.int(1, full);
  const { disaster } = identity;
  const tiered = disaster.startsWith('tier') || draw.chance(0.4);
  const scripted = disaster === 'script' || draw.chance(0.25);
  return {
    ...identity,
    blockSize,
    size,
    onDevice,
    holes: draw.chance(0.6) ? extents(draw, size, 3) : [],
    writers: draw.int(1, 5),
    pauseMs: draw.int(0, 8),
    longest: draw.pick([4096, 20_000, 150_000]),
    list: draw.chance(0.3) ? extents(draw, size, 5) : undefined,
    slots,
    tiers: tiered ? Array.from({ length: draw.pick([1, 1, 2]) }, () => draw.int(16, 40)) : [],
    tierDevice: draw.chance(0.15),
    target: {
      kind:
        scripted && !/^(target|checksums|manifest)/.test(disaster)
          ? 'script'
          : draw.chance(0.1)
            ? 'device'
            : 'directory',
      delayMs: draw.pick([0, 0, 1, 5]),
      checksums: draw.chance(0.5),
      fails: 'never',
      at: 0,
    },
    watermarks: draw.chance(0.4)
      ? { low: draw.int(0, high) / slots, high: high / slots, full: full / slots, drainTo: high / slots }
      : undefined,
    onFull: hold ? 'hold' : 'break',
    holdTimeout: draw.int(200, 2000),
    stallTimeout: hold || draw.chance(0.5) ? draw.int(300, 2000) : 0,
    maxDelay: draw.pick([0, 5, 50, 200]),
    // a sweep of 0.1 to 0.7 seconds, so that there is time for things to happen
    rate: draw.chance(0.85) ? Math.ceil((size * 1000) / draw.int(100, 700)) : undefined,
    faults: [],
    actions: [],
    blow: undefined,
    patienceMs: 8000,
  };
}

/** What has to be borne: short transfers, interrupted calls, delays, wishes. */
function addNoise(draw: Draw, plan: Plan): void {
  const places: Place[] = ['origin', 'target', 'checksums', 'tier'];
  if (plan.driver === 'user') places.push('control');
  const opsOf = (place: Place): Fault['ops'] =>
    place === 'control' ? ['send', 'receive'] : ['read', 'write'];
  const add = (name: string, place: Place, fault: Partial<Fault>) =>
    plan.faults.push({
      name: `${name} ${place}`,
      place,
      ops: opsOf(place),
      effect: 'error',
      chance: 0.2,
      afterMs: 0,
      ...fault,
    });
  for (const place of places) {
    const grain = place === 'control' ? 1 : place === 'tier' || plan.onDevice ? 4096 : draw.pick([1, 512]);
    if (draw.chance(0.35)) add('short', place, { effect: 'short', grain, chance: draw.pick([0.1, 0.5]) });
    // checksums are read by Node's own threads, which take no signals: nothing there would try again
    const interrupted: Fault['ops'] = place === 'checksums' ? ['write'] : opsOf(place);
    if (draw.chance(0.2)) add('interrupted', place, { errno: 'EINTR', ops: interrupted });
    if (draw.chance(0.2)) {
      add('delay', place, { effect: 'delay', delayUs: draw.int(100, 8000), chance: draw.pick([0.1, 0.4]) });
    }
  }
  const { size, tiers } = plan;
  const afterMs = () => draw.int(0, 500);
  if (draw.chance(0.4)) {
    const [[offset, length]] = extents(draw, size, 1) as [[number, number]];
    plan.actions.push({ do: 'prioritize', afterMs: afterMs(), offset, length });
  }
  if (draw.chance(0.2)) plan.actions.push({ do: 'pause', afterMs: afterMs(), forMs: draw.int(10, 400) });
  if (draw.chance(0.2)) plan.actions.push({ do: 'rate', afterMs: afterMs(), rate: undefined });
  while (tiers.length > 0 && plan.actions.length < 6 && draw.chance(0.5)) {
    plan.actions.push({ do: 'resize', afterMs: afterMs(), blocks: draw.int(16, 64) });
  }
}

function addDisaster(draw: Draw, plan: Plan): void {
  const { disaster, size, blockSize } = plan;
  const afterMs = draw.chance(0.2) ? 0 : draw.int(0, 450);
  const errno = draw.pick(['EIO', 'ENOSPC'] as const);
  const add = (place: Place, fault: Partial<Fault> & Pick<Fault, 'ops' | 'effect'>) =>
    plan.faults.push({ name: `${disaster}`, place, chance: 1, afterMs, ...fault });
  switch (disaster) {
    case 'none':
      return;
    case 'bad-blocks':
      for (const [from, length] of extents(draw, size, 2)) {
        const to = from + Math.min(length, draw.int(1, 3 * blockSize));
        add('origin', { ...FAIL_READS, from, to, afterMs: 0 });
      }
      return;
    case 'origin-reads':
      return void add('origin', { ...FAIL_READS, chance: 0.3, times: draw.int(1, 20) });
    case 'origin-writes':
      return void add('origin', { ...FAIL_WRITES, errno, chance: 0.4, times: draw.int(1, 20) });
    case 'target-retried':
      // fewer than the tries that a write gets
      return void add('target', { ...FAIL_WRITES, errno, times: draw.int(1, 3) });
    case 'target-fails':
      return void add('target', {
        ...FAIL_WRITES,
        errno,
        from: draw.chance(0.5) ? 0 : draw.int(0, size - 1),
      });
    case 'target-sync':
      return void add('target', { ops: ['sync'], effect: 'error', errno });
    case 'checksums-fail':
      return void add('checksums', { ops: [draw.pick(['write', 'sync'])], effect: 'error', errno });
    case 'manifest-fails':
      return void add('manifest', {
        ops: [draw.pick(['write', 'sync'])],
        effect: 'error',
        errno,
        afterMs: 0,
      });
    case 'tier-writes':
      press(draw, plan);
      return void add('tier', { ...FAIL_WRITES, errno });
    case 'tier-reads':
      press(draw, plan);
      return void add('tier', { ...FAIL_READS, ...(draw.chance(0.3) ? { times: 2 } : {}) });
    case 'script':
      plan.target.fails = draw.pick(['write', 'flush', 'checksums', 'manifest', 'close', 'silence']);
      plan.target.at = draw.int(1, 30);
      return;
    case 'overload':
      press(draw, plan);
      plan.holdTimeout = draw.int(200, 500);
      plan.patienceMs = 3000;
      plan.slots = Math.min(plan.slots, 4);
      plan.watermarks = undefined;
      plan.tiers = [];
      plan.actions = plan.actions.filter((action) => action.do !== 'resize');
      add('target', { ops: ['write'], effect: 'delay', delayUs: draw.int(50_000, 150_000), afterMs: 0 });
      return;
    case 'abort':
    case 'close-origin':
      plan.actions.push({ do: disaster, afterMs });
      return;
    case 'sever':
      return void add('control', { ops: ['read', 'write', 'send'], effect: 'sever', times: 1 });
    default: {
      const stalled = plan.stallTimeout + draw.int(50, 600);
      const since = draw.chance(0.25) ? 'order' : 'started';
      plan.blow = {
        what: disaster,
        since,
        afterMs: draw.int(0, since === 'order' ? 150 : 500),
        forMs: stalled,
      };
    }
  }
}

/** Writers that outrun the target, so that blocks are spilled and writes are held. */
function press(draw: Draw, plan: Plan): void {
  plan.writers = draw.int(4, 8);
  plan.pauseMs = 0;
  plan.slots = Math.min(plan.slots, 8);
  plan.watermarks = undefined;
  plan.maxDelay = draw.pick([0, 5]);
  plan.list = undefined;
  plan.faults.push({
    name: 'slow target',
    place: 'target',
    ops: ['write'],
    effect: 'delay',
    delayUs: draw.int(3000, 15_000),
    chance: 1,
    afterMs: 0,
  });
  if (plan.target.kind === 'script') plan.target.delayMs = 5;
}

/** The ends that a plan allows, besides a complete backup. */
export function allowedEnds(plan: Plan): Set<string> {
  const ends = new Set<string>(['complete']);
  const add = (...names: string[]) => {
    for (const name of names) ends.add(name);
  };
  if (plan.onFull === 'break') add('ERR_SNAPBAK_HOLD_TIMEOUT');
  if (plan.stallTimeout > 0) add('ERR_SNAPBAK_STALLED');
  switch (plan.disaster) {
    case 'bad-blocks':
    case 'origin-reads':
      add('complete-with-invalid-blocks');
      break;
    case 'target-fails':
    case 'target-sync':
    case 'checksums-fail':
    case 'manifest-fails':
      add('ERR_SNAPBAK_TARGET');
      break;
    case 'script':
      if (plan.target.fails !== 'close') add('ERR_SNAPBAK_TARGET');
      if (plan.target.fails === 'silence') add('ERR_SNAPBAK_ABORTED');
      break;
    case 'tier-writes':
      add('ERR_SNAPBAK_CONTAINER'); // it failed while it was made
      break;
    case 'tier-reads':
      add('ERR_SNAPBAK_CONTAINER_LOST');
      break;
    case 'abort':
    case 'overload':
      add('ERR_SNAPBAK_ABORTED');
      break;
    case 'close-origin':
      add('ERR_SNAPBAK_BROKEN', 'ERR_SNAPBAK_DRIVER_GONE', 'ERR_SNAPBAK_ORIGIN');
      break;
    case 'sever':
    case 'kill-driver':
      add('ERR_SNAPBAK_DRIVER_GONE', 'ERR_SNAPBAK_BROKEN');
      add('ERR_SNAPBAK_ORIGIN', 'ERR_SNAPBAK_PROTOCOL'); // it went while it was asked for
      break;
    case 'kill-library':
    case 'exit-library':
    case 'end-worker':
      add('killed');
      break;
    default:
  }
  return ends;
}

/**
 * The longest that a write may take, in milliseconds, on a machine that always
 * has time: the delay, the hold, and what the plan itself makes slower. What
 * the machine adds is measured in the session, and added by who judges.
 */
export function writeBound(plan: Plan): number {
  const blocks = Math.ceil(plan.longest / plan.blockSize) + 1;
  const delays = plan.faults.filter(({ effect }) => effect === 'delay');
  const slowest = (place: Place) =>
    Math.max(0, ...delays.filter((fault) => fault.place === place).map(({ delayUs }) => delayUs! / 1000));
  // a capture reads its blocks together and, where that fails, one by one; short transfers take several calls
  const own = slowest('origin') * 4 * (blocks + 2);
  const served =
    slowest('target') * 2 + plan.target.delayMs + slowest('tier') * 2 + slowest('checksums') * 2 + 5;
  const retried = plan.disaster === 'target-retried' || plan.disaster.startsWith('tier') ? 1000 : 0;
  // with `hold`, each of its blocks may wait for those of all other writers, and for a stall at the worst
  const held =
    plan.onFull === 'break' ? plan.holdTimeout : plan.stallTimeout + blocks * (plan.writers + 4) * served;
  const stopped = plan.blow?.what === 'stop-library' ? plan.blow.forMs : 0;
  return plan.maxDelay + held + own + served + retried + stopped;
}
