import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BlockList } from '../../../lib/blocks/block-list.js';
import type { Extent } from '../../../lib/extent.js';
import { Scheduler, type SchedulerOptions } from '../../../lib/scheduler/scheduler.js';
import { FakeClock } from '../../helpers/fake-clock.js';

const MiB = 2 ** 20;
const BLOCK = 65_536;

interface Push {
  at: number;
  work: Extent[];
  priority: boolean;
  bytes: number;
}

function setup(options: Partial<SchedulerOptions> = {}) {
  const clock = new FakeClock();
  const pushes: Push[] = [];
  // `safeUpTo`: the blocks below are captured already
  const state = { queued: 0, pending: 1, safeUpTo: 0 };
  const safeBytes = ({ offset, length }: Extent) => Math.min(length, Math.max(0, state.safeUpTo - offset));
  const size = options.size ?? 1024 * MiB;
  const scheduler = new Scheduler({
    blocks: BlockList.all(size),
    blockSize: BLOCK,
    size,
    push: (work, priority) => {
      const bytes = work.reduce((sum, extent) => sum + extent.length, 0);
      pushes.push({ at: clock.now(), work, priority, bytes });
      return bytes - work.reduce((sum, extent) => sum + safeBytes(extent), 0);
    },
    queuedBytes: () => state.queued,
    pendingBlocks: () => state.pending,
    clock,
    ...options,
  });
  const handedOut = () => pushes.reduce((sum, push) => sum + push.bytes, 0);
  return { clock, pushes, state, scheduler, handedOut };
}

describe('Scheduler', () => {
  it('charges the rate for pending blocks only: what writers made safe is passed at once', () => {
    const { scheduler, pushes, clock, state } = setup({ size: 64 * MiB, rate: MiB });
    state.safeUpTo = 60 * MiB;
    scheduler.start();
    clock.advance(4_500);
    const last = pushes.at(-1)!.work.at(-1)!;
    assert.equal(last.offset + last.length, 64 * MiB, '4 MiB at 1 MiB/s, 60 MiB for nothing');
  });

  it('hands out nothing before the start', () => {
    const { scheduler, pushes, clock } = setup({ rate: MiB });
    scheduler.needWork();
    scheduler.prioritize([{ offset: 0, length: BLOCK }]);
    clock.advance(1000);
    assert.deepEqual(pushes, []);
  });

  it('goes through the block list ascending, each byte once, in whole blocks', () => {
    const blocks = BlockList.extents([
      { offset: 10, length: 1 },
      { offset: 5 * BLOCK, length: 3 * BLOCK },
      { offset: 9 * BLOCK, length: 100 },
    ]);
    const { scheduler, pushes } = setup({ blocks, size: 9 * BLOCK + 500 });
    scheduler.start();
    scheduler.needWork();
    assert.deepEqual(
      pushes.map(({ work, priority }) => ({ work, priority })),
      [
        {
          priority: false,
          work: [
            { offset: 0, length: BLOCK },
            { offset: 5 * BLOCK, length: 3 * BLOCK },
            { offset: 9 * BLOCK, length: 500 },
          ],
        },
      ],
    );
  });

  it('hands out what comes first in its own order, after wishes and hints, and then the whole list', () => {
    const place = (block: number, blocks = 1) => ({ offset: block * BLOCK, length: blocks * BLOCK });
    const first = [place(7, 2), place(3)];
    const { scheduler, pushes, clock } = setup({ size: 10 * BLOCK, first, rate: 10 * BLOCK });
    scheduler.hint([place(5)]);
    scheduler.prioritize([place(9)]);
    scheduler.start();
    clock.advance(3000);
    assert.deepEqual(pushes.flatMap(({ work }) => work).slice(0, 8), [
      place(9),
      place(5),
      place(7),
      place(8),
      place(3),
      place(0),
      place(1),
      place(2),
    ]);
  });

  it('leaves hints no more than their share while it hands out what comes first', () => {
    const first = [{ offset: 0, length: 512 * MiB }];
    const { scheduler, pushes, clock } = setup({ first, rate: 8 * MiB });
    scheduler.hint([{ offset: 512 * MiB, length: 512 * MiB }]);
    scheduler.start();
    clock.advance(10_000);
    const bytes = (hints: boolean) =>
      pushes.filter(({ priority }) => priority === hints).reduce((sum, push) => sum + push.bytes, 0);
    assert.ok(bytes(true) > 0 && bytes(false) > 0);
    assert.ok(bytes(false) * 4 > (bytes(true) + bytes(false)) * 0.75, 'the list had less than its quarter');
  });

  it('starts over ascending, not with what came first', () => {
    const first = [{ offset: 4 * BLOCK, length: BLOCK }];
    const { scheduler, pushes, clock } = setup({ size: 8 * BLOCK, first });
    scheduler.start();
    clock.advance(1000);
    scheduler.needWork();
    clock.advance(3000);
    assert.deepEqual(pushes[0]!.work, [first[0], { offset: 0, length: 8 * BLOCK }]);
    assert.deepEqual(pushes[1]?.work, [{ offset: 0, length: 8 * BLOCK }]);
  });

  it('hands out more as the copy threads ask, and as much as they did lately in 250 ms', () => {
    const { scheduler, pushes, clock } = setup({ size: 64 * 1024 * MiB });
    scheduler.start();
    assert.equal(pushes[0]!.bytes, 16 * MiB);
    clock.advance(64); // 16 MiB in 64 ms: 250 MiB/s
    scheduler.needWork();
    assert.equal(pushes[1]!.bytes, 62.5 * MiB);
    clock.advance(50); // 62.5 MiB in 50 ms: 1250 MiB/s
    scheduler.needWork();
    assert.equal(pushes[2]!.bytes, 312.5 * MiB);
    clock.advance(50);
    scheduler.needWork();
    assert.equal(pushes[3]!.bytes, 1024 * MiB, 'never above 1 GiB');
    assert.equal(pushes[3]!.work[0]!.offset, 391 * MiB);
  });

  it('does not take one quick read for a fast device, however often it is asked', () => {
    const queue = { bytes: 0 };
    const { scheduler, pushes, clock } = setup({ size: 1024 * MiB, queuedBytes: () => queue.bytes });
    scheduler.start();
    queue.bytes = 16 * MiB;
    for (let i = 0; i < 10; i++) {
      queue.bytes -= MiB / 4;
      clock.advance(0.2);
      scheduler.needWork();
      queue.bytes += pushes.at(-1)!.bytes;
    }
    assert.ok(queue.bytes <= 17 * MiB, `${queue.bytes / MiB} MiB wait for a device of 32 MiB/s`);
  });

  it('puts prioritised extents before everything, in their order, cut to the block list', () => {
    const blocks = BlockList.extents([{ offset: 0, length: 8 * BLOCK }]);
    const { scheduler, pushes } = setup({ blocks, size: 16 * BLOCK });
    scheduler.start();
    scheduler.prioritize([
      { offset: 6 * BLOCK + 5, length: 5 * BLOCK },
      { offset: BLOCK, length: 1 },
    ]);
    assert.equal(pushes[1]!.priority, true);
    assert.deepEqual(pushes[1]!.work, [
      { offset: 6 * BLOCK, length: 2 * BLOCK },
      { offset: BLOCK, length: BLOCK },
    ]);
  });

  it('takes wishes before the list at a limited rate too', () => {
    const { scheduler, pushes, clock } = setup({ rate: 10 * MiB });
    scheduler.start();
    scheduler.prioritize([{ offset: 512 * MiB, length: 2 * MiB }]);
    clock.advance(400);
    const order = pushes.map(({ priority, work }) => [priority, work[0]!.offset]);
    assert.deepEqual(order.slice(0, 3), [
      [true, 512 * MiB],
      [true, 513 * MiB],
      [false, 0],
    ]);
  });

  it('refuses a wish that is no extent of the device, and takes none of that call', () => {
    const { scheduler, pushes } = setup({ size: MiB, rate: MiB });
    const bad = [
      { offset: 0, length: 1 },
      { offset: MiB, length: 1 },
    ];
    assert.throws(() => scheduler.prioritize(bad), /extents\[1\] must end at or before .*1048576 bytes/);
    assert.throws(() => scheduler.prioritize([{ offset: -1, length: 1 }]), RangeError);
    assert.throws(() => scheduler.prioritize(5 as never), TypeError);
    scheduler.start();
    assert.deepEqual(
      pushes.filter((push) => push.priority),
      [],
    );
  });

  it('refuses more wishes than it could remember', () => {
    const { scheduler } = setup();
    const many = Array.from({ length: 60_000 }, (_, i) => ({ offset: (i % 16_000) * BLOCK, length: BLOCK }));
    const sparse = Array.from({ length: 8_000 }, (_, i) => ({ offset: 2 * i * BLOCK, length: BLOCK }));
    scheduler.prioritize(many); // one run
    for (let i = 0; i < 12; i++) scheduler.prioritize(sparse);
    assert.throws(() => scheduler.prioritize(sparse), /100000 prioritised extents/);
  });

  it('keeps to the rate over any second, with a burst of at most 200 ms', () => {
    const rate = 50 * MiB;
    const { scheduler, pushes, clock } = setup({ rate });
    scheduler.start();
    clock.advance(10_000);
    for (const { at } of pushes) {
      const window = pushes.filter((push) => push.at > at - 1000 && push.at <= at);
      const bytes = window.reduce((sum, push) => sum + push.bytes, 0);
      assert.ok(bytes <= rate * 1.2, `${bytes} bytes in the second before ${at} ms`);
    }
    const total = pushes.reduce((sum, push) => sum + push.bytes, 0);
    assert.ok(total > rate * 9.8 && total <= rate * 10, `${total}`);
    assert.ok(pushes.length <= 101, 'JavaScript ran ten times a second');
  });

  it('serves a rate below one block a tick by waiting, one block at a time', () => {
    const { scheduler, pushes, clock } = setup({ rate: 16_384 });
    scheduler.start();
    clock.advance(20_000);
    assert.equal(pushes.length, 5);
    assert.ok(pushes.every((push) => push.bytes === BLOCK));
  });

  it('acts on a new rate within a second, up, down and off', () => {
    const { scheduler, handedOut, clock } = setup({ rate: MiB });
    scheduler.start();
    clock.advance(2000);
    const slow = handedOut();
    scheduler.setRate(100 * MiB);
    clock.advance(1000);
    const fast = handedOut() - slow;
    assert.ok(fast > 80 * MiB && fast <= 100 * MiB, `${fast}`);
    scheduler.setRate(MiB);
    clock.advance(1000);
    assert.ok(handedOut() - slow - fast <= 2.2 * MiB);
    const before = handedOut();
    scheduler.setRate(undefined);
    assert.ok(handedOut() - before >= 16 * MiB, 'without a rate, work comes at once');
  });

  it('does not run ahead of copy threads that are slower than the rate', () => {
    const { scheduler, state, handedOut, clock } = setup({ rate: 10 * MiB });
    state.queued = 11 * MiB;
    scheduler.start();
    clock.advance(5000);
    assert.equal(handedOut(), 0);
    state.queued = 0;
    clock.advance(100);
    assert.ok(handedOut() > 0);
  });

  it('hands out nothing while paused, and goes on where it was', () => {
    const { scheduler, pushes, clock } = setup({ rate: 10 * MiB });
    scheduler.start();
    clock.advance(1000);
    const before = pushes.length;
    scheduler.pause();
    clock.advance(5000);
    scheduler.needWork();
    assert.equal(pushes.length, before);
    assert.equal(clock.waiting, 0);
    const end = pushes.at(-1)!.work.at(-1)!;
    scheduler.resume();
    assert.equal(pushes[before]!.work[0]!.offset, end.offset + end.length);
  });

  it('remembers that work was asked for during a pause', () => {
    const { scheduler, pushes } = setup();
    scheduler.start();
    scheduler.pause();
    scheduler.needWork();
    scheduler.resume();
    assert.equal(pushes.length, 2);
  });

  for (const rate of [undefined, 100 * MiB]) {
    it(`starts over when blocks are pending at the end of the list, ${rate ?? 'no'} rate, but never in a loop`, () => {
      const { scheduler, pushes, clock } = setup({ size: MiB, rate });
      scheduler.start();
      clock.advance(100);
      for (let i = 0; i < 10; i++) scheduler.needWork();
      assert.equal(pushes.length, 1);
      clock.advance(1200);
      assert.equal(pushes.length, 2);
      assert.deepEqual(pushes[1]!.work, pushes[0]!.work);
    });
  }

  it('does not start over when nothing is pending', () => {
    const { scheduler, state, pushes, clock } = setup({ size: MiB });
    state.pending = 0;
    scheduler.start();
    scheduler.needWork();
    clock.advance(10_000);
    assert.equal(pushes.length, 1);
  });

  it('is silent after stop()', () => {
    const { scheduler, pushes, clock } = setup({ rate: MiB });
    scheduler.start();
    scheduler.stop();
    const before = pushes.length;
    scheduler.needWork();
    scheduler.setRate(5 * MiB);
    scheduler.resume();
    clock.advance(5000);
    assert.equal(pushes.length, before);
    assert.equal(clock.waiting, 0);
  });

  it('covers any block list completely, whatever is paused, prioritised and limited meanwhile', () => {
    const size = 64 * BLOCK + 777;
    const extent = fc
      .tuple(fc.integer({ min: 0, max: size - 1 }), fc.integer({ min: 1, max: 9 * BLOCK }))
      .map(([offset, length]) => ({ offset, length: Math.min(length, size - offset) }));
    const action = fc.oneof(
      fc.record({ kind: fc.constant('need' as const) }),
      fc.record({ kind: fc.constant('pause' as const) }),
      fc.record({ kind: fc.constant('wish' as const), extents: fc.array(extent, { maxLength: 4 }) }),
      fc.record({ kind: fc.constant('rate' as const), rate: fc.option(fc.integer({ min: 1, max: 1e7 })) }),
      fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 0, max: 3000 }) }),
    );
    fc.assert(
      fc.property(fc.array(extent), fc.array(action), (extents, actions) => {
        const blocks = BlockList.extents(extents);
        const { scheduler, pushes, clock } = setup({ blocks, size });
        scheduler.start();
        for (const act of actions) {
          if (act.kind === 'need') scheduler.needWork();
          if (act.kind === 'pause') scheduler.pause();
          if (act.kind === 'wish') scheduler.prioritize(act.extents);
          if (act.kind === 'rate') scheduler.setRate(act.rate ?? undefined);
          if (act.kind === 'time') clock.advance(act.ms);
        }
        scheduler.resume();
        scheduler.setRate(undefined);
        for (let i = 0; i < 3; i++) scheduler.needWork();
        const copied = BlockList.extents(pushes.flatMap((push) => push.work));
        const aligned = blocks.alignTo(BLOCK, size);
        assert.deepEqual([...copied], [...aligned]);
      }),
      { numRuns: 300 },
    );
  });
});
