import assert from 'node:assert/strict';
import { Monitor } from '../../../lib/backup/monitor.js';
import { type BackupEvent, EventChannel } from '../../../lib/events.js';
import { FakeClock } from '../../helpers/fake-clock.js';
import { FakeSession } from '../../helpers/fake-session.js';

function setup() {
  const clock = new FakeClock();
  const session = new FakeSession();
  session.figures = { listedBlocks: 100, slotsTotal: 10, tier2Total: 10 };
  const seen: BackupEvent[] = [];
  const channel = new EventChannel();
  channel.push = (event) => seen.push(event);
  const monitor = new Monitor({
    read: () => session.stats(),
    blockSize: 4096,
    tiers: ['file /a', 'device /dev/b'],
    channel,
    clock,
  });
  const kinds = () => seen.map(({ event }) => event);
  return { clock, session, monitor, seen, kinds };
}

describe('Monitor', () => {
  it('tells progress four times a second, with the speed', () => {
    const { clock, session, seen, kinds } = setup();
    session.figures = { ...session.figures, doneBlocks: 10 };
    clock.advance(1000);
    assert.deepEqual(kinds(), ['progress', 'progress', 'progress', 'progress']);
    const last = seen.at(-1);
    assert.ok(last?.event === 'progress');
    assert.equal(last.bytesPerSecond, 40_960);
    assert.equal(last.seconds, 1);
  });

  it('tells what changed since it was told last, and nothing twice', () => {
    const { clock, session, seen } = setup();
    session.figures = { ...session.figures, spilledBlocks: 3, tier2Used: 2, slotsUsed: 8 };
    session.counters = { delayed: 4, delayedNs: 8e6, held: 2, heldNow: 1, heldMaxNs: 5e6 };
    clock.advance(250);
    session.counters = { ...session.counters, delayed: 5, delayedNs: 9e6, heldNow: 0 };
    clock.advance(750);
    assert.deepEqual(
      seen.filter(({ event }) => event !== 'progress'),
      [
        { event: 'spill', blocks: 3, totalBlocks: 3, usedBytes: 8192, capacityBytes: 40_960, lost: false },
        { event: 'throttle', writes: 4, ms: 8, fill: 0.5 },
        { event: 'hold', writes: 2, now: 1, longestMs: 5 },
        { event: 'throttle', writes: 1, ms: 1, fill: 0.5 },
        { event: 'hold', writes: 0, now: 0, longestMs: 5 },
      ],
    );
  });

  it('tells which second tier was lost', () => {
    const { session, monitor, seen } = setup();
    const tier = { total: 5, used: 1, lost: false };
    session.figures = { ...session.figures, tiers: [tier, { ...tier, lost: true }] };
    monitor.tier2Lost(-5, 1);
    assert.deepEqual(seen, [
      {
        event: 'spill',
        blocks: 0,
        totalBlocks: 0,
        usedBytes: 0,
        capacityBytes: 40_960,
        lost: true,
        errno: -5,
        tier: 'device /dev/b',
      },
    ]);
  });

  it('reads a last time at its end, and never again', () => {
    const { clock, session, monitor, kinds } = setup();
    session.figures = { ...session.figures, doneBlocks: 7 };
    assert.equal(monitor.end().doneBlocks, 7);
    session.figures = { ...session.figures, doneBlocks: 9 };
    clock.advance(5000);
    assert.equal(monitor.end().doneBlocks, 7);
    assert.equal(monitor.stats().doneBlocks, 7);
    assert.deepEqual(kinds(), ['progress']);
    assert.equal(clock.waiting, 0);
  });

  it('ends with what it saw last when the session is gone', () => {
    const { session, monitor } = setup();
    session.figures = { ...session.figures, doneBlocks: 7 };
    monitor.stats();
    session.stats = () => {
      throw new Error('closed');
    };
    assert.equal(monitor.end().doneBlocks, 7);
  });
});
