import assert from 'node:assert/strict';
import type { NativeThrottle } from '../../../lib/binding.js';
import { type Fill, THROTTLE_MS, Throttle } from '../../../lib/container/throttle.js';
import { FakeClock } from '../../helpers/fake-clock.js';

const BLOCK = 65_536;

/** A container of 100 slots, and what the throttle says of it. */
function setup(options: { maxDelay?: number; high?: number } = {}) {
  const clock = new FakeClock();
  const fill: Fill = { capturedBlocks: 0, wantedBlocks: 0, slotsUsed: 0 };
  const said: NativeThrottle[] = [];
  const throttle = new Throttle({
    watermarks: { low: 50, high: options.high ?? 75, full: 100, drainTo: 75 },
    blockSize: BLOCK,
    maxDelay: options.maxDelay ?? 1000,
    read: () => fill,
    apply: (setting) => said.push(setting),
    clock,
  });
  /** Seconds in which the fill stays where it is, and so many blocks go through. */
  const flow = (seconds: number, blocksASecond: number) => {
    for (let i = 0; i < seconds * 10; i++) {
      fill.capturedBlocks += blocksASecond / 10;
      clock.advance(THROTTLE_MS);
    }
  };
  return { clock, fill, said, throttle, flow, last: () => said.at(-1)! };
}

describe('the throttle', () => {
  it('begins at the high watermark, is longest at the full one, and has a ceiling', () => {
    const { throttle, last } = setup({ maxDelay: 250 });
    throttle.start();
    assert.deepEqual({ ...last(), rate: 0 }, { begin: 75, full: 100, rate: 0, maxUs: 250_000 });
    throttle.stop();
  });

  it('delays nobody before it knows how fast the container is drained', () => {
    const { throttle, last, flow } = setup();
    throttle.start();
    flow(5, 1000); // below the low watermark: the writers' own speed
    assert.ok(last().rate >= 2 ** 40);
    throttle.stop();
  });

  it('follows the rate of the drain within a second', () => {
    const { throttle, fill, last, flow } = setup();
    throttle.start();
    fill.slotsUsed = 80;
    fill.capturedBlocks = 80;
    flow(2, 320);
    assert.equal(last().rate, 320 * BLOCK);
    flow(1.2, 8);
    assert.equal(last().rate, 8 * BLOCK);
    throttle.stop();
  });

  it('counts what held writes got without a slot', () => {
    const { throttle, fill, last, clock } = setup();
    throttle.start();
    fill.slotsUsed = 100;
    fill.capturedBlocks = 100;
    for (let i = 0; i < 20; i++) {
      fill.wantedBlocks += 2;
      clock.advance(THROTTLE_MS);
    }
    assert.equal(last().rate, 20 * BLOCK);
    throttle.stop();
  });

  it('calls a drain that stands still slow, and never unknown', () => {
    const { throttle, fill, last, flow } = setup();
    throttle.start();
    fill.slotsUsed = 90;
    fill.capturedBlocks = 90;
    flow(3, 0);
    assert.equal(last().rate, BLOCK);
    throttle.stop();
  });

  it('keeps what it knows of the target while writers pause', () => {
    const { throttle, fill, last, flow } = setup();
    throttle.start();
    fill.slotsUsed = 80;
    fill.capturedBlocks = 80;
    flow(2, 320);
    fill.slotsUsed = 0;
    flow(10, 1);
    assert.equal(last().rate, 320 * BLOCK);
    throttle.stop();
  });

  it('is never switched on where nothing lies between high and full, or no delay is wanted', () => {
    for (const options of [{ high: 100 }, { maxDelay: 0 }]) {
      const { throttle, said, clock } = setup(options);
      throttle.start();
      clock.advance(1000);
      assert.deepEqual(said, []);
      assert.equal(clock.waiting, 0);
    }
  });

  it('leaves no timer behind', () => {
    const { throttle, clock } = setup();
    throttle.start();
    clock.advance(1000);
    throttle.stop();
    assert.equal(clock.waiting, 0);
  });
});
