import assert from 'node:assert/strict';
import fc from 'fast-check';
import { BlockList } from '../../../lib/blocks/block-list.js';
import type { Extent } from '../../../lib/extent.js';
import { Hints, MAX_HINTS } from '../../../lib/scheduler/hints.js';
import { Scheduler, TICK_MS } from '../../../lib/scheduler/scheduler.js';
import { FakeClock } from '../../helpers/fake-clock.js';

const MiB = 2 ** 20;
const BLOCK = 65_536;

function hintsOf(size = 16 * MiB, nextPending = (offset: number, _end: number) => offset) {
  return new Hints({ blockSize: BLOCK, size, nextPending });
}

function all(hints: Hints, budget = 1024 * MiB): Extent[] {
  const pieces: Extent[] = [];
  for (let piece = hints.next(budget); piece !== undefined; piece = hints.next(budget)) pieces.push(piece);
  return pieces;
}

describe('Hints', () => {
  it('go the newest first, in whole blocks', () => {
    const hints = hintsOf();
    hints.add([
      { offset: 100, length: 10 },
      { offset: MiB - 1, length: 2 },
    ]);
    hints.add([{ offset: 2 * MiB, length: BLOCK }]);
    assert.deepEqual(all(hints), [
      { offset: 2 * MiB, length: BLOCK },
      { offset: MiB - BLOCK, length: 2 * BLOCK },
      { offset: 0, length: BLOCK },
    ]);
  });

  it('are cut to the budget, and a newer one goes before the rest of an older one', () => {
    const hints = hintsOf();
    hints.add([{ offset: 0, length: MiB }]);
    assert.deepEqual(hints.next(3 * BLOCK + 5), { offset: 0, length: 3 * BLOCK });
    hints.add([{ offset: 8 * MiB, length: BLOCK }]);
    assert.deepEqual(hints.next(1), { offset: 8 * MiB, length: BLOCK });
    assert.deepEqual(hints.next(1), { offset: 3 * BLOCK, length: BLOCK });
  });

  it('end with the device', () => {
    const hints = hintsOf(BLOCK + 10);
    hints.add([{ offset: BLOCK, length: 10 }]);
    hints.add([{ offset: 0, length: 0 }]);
    assert.deepEqual(all(hints), [{ offset: BLOCK, length: 10 }]);
  });

  it('are bounded: the oldest give way', () => {
    const hints = hintsOf(1024 * MiB);
    for (let i = 0; i < 3 * MAX_HINTS; i++) hints.add([{ offset: i * BLOCK, length: BLOCK }]);
    const pieces = all(hints);
    assert.equal(pieces.length, MAX_HINTS);
    assert.equal(pieces[0]?.offset, (3 * MAX_HINTS - 1) * BLOCK);
    assert.equal(pieces.at(-1)?.offset, 2 * MAX_HINTS * BLOCK);
  });

  it('pass over what is safe, at any length', () => {
    const hints = hintsOf(2 ** 50, (_, end) => end - BLOCK);
    hints.add([{ offset: 0, length: 2 ** 49 }]);
    assert.deepEqual(all(hints), [{ offset: 2 ** 49 - BLOCK, length: BLOCK }]);
    const safe = hintsOf(2 ** 50, (_, end) => end);
    safe.add([{ offset: 0, length: 2 ** 49 }]);
    assert.deepEqual(all(safe), []);
  });
});

/** A device of which the test plays the bitmap, swept at once as it is handed out. */
function device(size: number, rate: number | undefined) {
  const clock = new FakeClock();
  const pending = new Uint8Array(size / BLOCK).fill(1);
  const copied: { at: number; block: number; hinted: boolean }[] = [];
  let queue: { block: number; hinted: boolean }[] = [];
  const scheduler = new Scheduler({
    ...{ blocks: BlockList.all(size), blockSize: BLOCK, size, rate, clock },
    push: (work, hinted) => {
      let bytes = 0;
      const blocks = work.flatMap(({ offset, length }) =>
        Array.from({ length: length / BLOCK }, (_, i) => ({ block: offset / BLOCK + i, hinted })),
      );
      for (const { block } of blocks) bytes += pending[block]! * BLOCK;
      // what is a priority goes before what is none, in the order in which it came
      queue = [...queue, ...blocks].sort((a, b) => Number(b.hinted) - Number(a.hinted));
      return bytes;
    },
    queuedBytes: () => queue.length * BLOCK,
    pendingBlocks: () => pending.reduce((sum, bit) => sum + bit, 0),
    nextPending: (offset, end) => {
      const found = pending.indexOf(1, offset / BLOCK);
      return found < 0 ? end : Math.min(end, found * BLOCK);
    },
  });
  /** The copy threads take so many blocks. */
  const copy = (blocks: number) => {
    let left = blocks;
    while (left > 0 && queue.length > 0) {
      const { block, hinted } = queue.shift()!;
      if (pending[block] === 0) continue;
      pending[block] = 0;
      left -= 1;
      copied.push({ at: clock.now(), block, hinted });
    }
    if (queue.length * BLOCK < 4 * MiB) scheduler.needWork();
  };
  return { clock, scheduler, pending, copied, copy };
}

describe('Scheduler with hints', () => {
  for (const rate of [MiB, 64 * MiB, undefined]) {
    const named = rate === undefined ? 'without a limit' : `at ${rate / MiB} MiB/s`;

    it(`copies a hint within a second ${named}`, () => {
      const { clock, scheduler, copied, copy } = device(256 * MiB, rate);
      scheduler.start();
      for (let ms = 0; ms < 2000; ms += 50) {
        clock.advance(50);
        copy(rate === undefined ? 16 : Number.POSITIVE_INFINITY);
      }
      const hintedAt = clock.now();
      scheduler.hint([{ offset: 200 * MiB, length: BLOCK }]);
      for (let ms = 0; ms < 1000; ms += 50) {
        clock.advance(50);
        copy(rate === undefined ? 16 : Number.POSITIVE_INFINITY);
      }
      const found = copied.find(({ block }) => block === (200 * MiB) / BLOCK);
      assert.ok(found !== undefined && found.at - hintedAt <= 1000);
    });

    it(`gives the block list its share under a flood of hints ${named}`, () => {
      const size = 512 * MiB;
      const { clock, scheduler, copied, copy } = device(size, rate);
      scheduler.start();
      for (let ms = 0; ms < 20_000; ms += 50) {
        // from the end on downwards, always more than can be copied
        scheduler.hint([{ offset: size / 2, length: size / 2 }]);
        scheduler.hint([{ offset: size - ((ms / 50) % 64) * BLOCK - BLOCK, length: BLOCK }]);
        clock.advance(50);
        copy(rate === undefined ? 8 : Number.POSITIVE_INFINITY);
        if (copied.length > 3500) break; // half of the device: the hints are nearly through
      }
      const seconds = clock.now() / 1000;
      const listed = copied.filter(({ hinted }) => !hinted).length;
      const hinted = copied.length - listed;
      // hints may have about a second's worth before it is the list's turn for the first time
      const head = Math.min(1024, (rate ?? Number.POSITIVE_INFINITY) / BLOCK);
      const share = Math.floor((copied.length - head) / 4) - 16;
      assert.ok(share > 32 && listed >= share, `the list had ${listed} of ${copied.length} blocks`);
      assert.ok(hinted >= copied.length / 2, `hints had ${hinted} of ${copied.length} blocks`);
      if (rate !== undefined) assert.ok(copied.length * BLOCK <= (seconds + 1) * rate, 'above the rate');
    });
  }

  it('does not charge the rate for hints at what is copied already', () => {
    const size = 64 * MiB;
    const { clock, scheduler, pending, copied, copy } = device(size, MiB);
    pending.fill(0, (32 * MiB) / BLOCK);
    scheduler.start();
    for (let ms = 0; ms < 10_000; ms += 50) {
      scheduler.hint([{ offset: 32 * MiB, length: 32 * MiB }]);
      clock.advance(50);
      copy(Number.POSITIVE_INFINITY);
    }
    assert.ok(copied.every(({ hinted }) => !hinted));
    assert.ok(copied.length * BLOCK >= 9 * MiB, `the list had ${copied.length} blocks only`);
  });

  it('has hints wait while it is paused, and no more than so many', () => {
    const { clock, scheduler, copied, copy } = device(64 * MiB, undefined);
    scheduler.hint([{ offset: 0, length: BLOCK }]);
    clock.advance(1000);
    assert.equal(copied.length, 0);
    scheduler.start();
    scheduler.pause();
    copy(10_000);
    copied.length = 0;
    scheduler.hint([{ offset: 60 * MiB, length: BLOCK }]);
    clock.advance(1000);
    assert.equal(copied.length, 0);
    scheduler.resume();
    clock.advance(TICK_MS);
    copy(1);
    assert.equal(copied[0]?.block, (60 * MiB) / BLOCK);
  });

  it('gives all to hints when the list has nothing left, and ends with every block copied', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ offset: fc.nat(255), length: fc.integer({ min: 1, max: 64 }) }), {
          maxLength: 20,
        }),
        fc.constantFrom(undefined, 2 * MiB),
        (given, rate) => {
          const { clock, scheduler, copied, copy } = device(16 * MiB, rate);
          scheduler.start();
          for (let ms = 0; ms < 60_000 && copied.length < 256; ms += 100) {
            const hint = given.pop();
            if (hint !== undefined) {
              const offset = hint.offset * BLOCK;
              scheduler.hint([{ offset, length: Math.min(hint.length * BLOCK, 16 * MiB - offset) }]);
            }
            clock.advance(100);
            copy(20);
          }
          assert.equal(new Set(copied.map(({ block }) => block)).size, 256);
        },
      ),
      { numRuns: 50 },
    );
  });
});
