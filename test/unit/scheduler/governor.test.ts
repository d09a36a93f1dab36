import assert from 'node:assert/strict';
import { Governor, type LatencyGoal } from '../../../lib/scheduler/governor.js';
import { FakeClock } from '../../helpers/fake-clock.js';

const MB = 1e6;

/**
 * A disk of 100 MB/s whose requests take `aloneMs` by themselves and ten times as
 * long beside a sweep at full speed; the application makes `perSecond` of them.
 */
class Disk {
  readonly clock = new FakeClock();
  readonly governor: Governor;
  readonly told: (number | undefined)[] = [];
  aloneMs = 1;
  perSecond = 200;
  known = true;
  #rate: number | undefined;
  #swept = 0;
  #requests = 0;
  #ms = 0;

  constructor(goal: LatencyGoal, rate?: number) {
    this.#rate = rate;
    this.governor = new Governor({
      goal,
      rate,
      foreground: async () => (this.known ? { requests: this.#requests, ms: this.#ms } : undefined),
      queuedBytes: () => 0,
      sweptBytes: () => this.#swept,
      apply: (to) => {
        this.#rate = to;
        this.told.push(to);
      },
      clock: this.clock,
    });
    this.governor.start();
  }

  get speed(): number {
    return Math.min(100 * MB, this.#rate ?? Number.POSITIVE_INFINITY);
  }

  get latency(): number {
    return this.aloneMs * (1 + (9 * this.speed) / (100 * MB));
  }

  /** The means of the application's latency and of the sweep's speed over these seconds. */
  async run(seconds: number): Promise<{ ms: number; speed: number }> {
    const before = { swept: this.#swept, requests: this.#requests, ms: this.#ms };
    for (let tick = 0; tick < seconds * 100; tick++) {
      this.#swept += this.speed / 100;
      this.#requests += this.perSecond / 100;
      this.#ms += (this.perSecond / 100) * this.latency;
      this.clock.advance(10);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return {
      ms: (this.#ms - before.ms) / (this.#requests - before.requests),
      speed: (this.#swept - before.swept) / seconds,
    };
  }
}

describe('Governor', () => {
  it('lets the sweep have a quiet device', async () => {
    const disk = new Disk('auto');
    disk.perSecond = 0;
    await disk.run(5);
    assert.deepEqual(disk.told, []);
    assert.deepEqual(disk.governor.stats, {});
  });

  it('finds what requests take without the sweep, and keeps them near twice that', async () => {
    const disk = new Disk('auto');
    await disk.run(5);
    const { ms, speed } = await disk.run(20);
    // beside the sweep at its floor a request takes 1.45 ms; twice that at 21 MB/s of the sweep
    assert.ok(ms < 2.95, `${ms} ms`);
    assert.ok(speed > 10 * MB && speed < 22 * MB, `${speed} bytes/s`);
    const { goalMs, latencyMs, sweepLimit } = disk.governor.stats;
    assert.ok(goalMs! > 1.9 && goalMs! < 3.1 && latencyMs! > 1, `${goalMs} ${latencyMs}`);
    assert.equal(sweepLimit, disk.told.at(-1));
  });

  it('keeps them under the goal that the user set, and gives the sweep what that leaves', async () => {
    const disk = new Disk(5.5); // half of the disk
    await disk.run(5);
    const { ms, speed } = await disk.run(20);
    assert.ok(ms < 5.8, `${ms} ms`);
    assert.ok(speed > 38 * MB && speed < 55 * MB, `${speed} bytes/s`);
    assert.equal(disk.governor.stats.goalMs, 5.5);
  });

  it('gives the sweep all of it within a second and a bit when the application stops', async () => {
    const disk = new Disk(2);
    await disk.run(10);
    disk.perSecond = 0;
    await disk.run(2.2);
    assert.equal(disk.told.at(-1), undefined);
    assert.equal((await disk.run(1)).speed, 100 * MB);
    assert.equal('latencyMs' in disk.governor.stats, false);
  });

  it('slows the sweep down within a second when the application begins', async () => {
    const disk = new Disk(2);
    disk.perSecond = 0;
    await disk.run(5);
    disk.perSecond = 200;
    await disk.run(1);
    assert.ok(disk.speed < 20 * MB, `${disk.speed} bytes/s`);
  });

  it('never stops the sweep, whatever the goal', async () => {
    const disk = new Disk(0.1);
    await disk.run(10);
    const { speed } = await disk.run(5);
    assert.ok(speed > 4 * MB && speed < 6 * MB, `a twentieth, not ${speed} bytes/s`);
  });

  it('does not blame the sweep for a device that became slow by itself', async () => {
    const disk = new Disk('auto');
    await disk.run(10);
    disk.aloneMs = 20;
    await disk.run(5);
    const { speed } = await disk.run(20);
    assert.ok(speed > 6 * MB, `${speed} bytes/s`);
  });

  it('never goes faster than the user said', async () => {
    const disk = new Disk(2, 4 * MB);
    await disk.run(5);
    assert.equal(disk.speed, 4 * MB);
    disk.governor.setRate(50 * MB);
    await disk.run(5);
    assert.ok(disk.speed < 20 * MB);
    disk.perSecond = 0;
    await disk.run(3);
    assert.equal(disk.speed, 50 * MB);
    disk.governor.setRate(undefined);
    assert.equal(disk.speed, 100 * MB);
  });

  it('yields to nobody if it shall not, or if nothing is known of the application', async () => {
    const free = new Disk('none');
    await free.run(3);
    assert.deepEqual(free.told, []);
    const blind = new Disk(2);
    blind.known = false;
    await blind.run(3);
    assert.deepEqual(blind.told, []);
  });

  it('leaves no timer behind', async () => {
    const disk = new Disk('auto');
    await disk.run(1);
    disk.governor.stop();
    await disk.run(1);
    assert.equal(disk.clock.waiting, 0);
  });
});
