import assert from 'node:assert/strict';
import { Output } from '../../../lib/cli/output.js';
import { watchStatus } from '../../../lib/cli/status-watch.js';
import type { OriginStatus } from '../../../lib/origin.js';
import { FakeSession } from '../../helpers/fake-session.js';
import { TextSink } from '../../helpers/text-sink.js';

type Seen = Partial<Omit<OriginStatus, 'counters'>> & { counters?: Partial<OriginStatus['counters']> };

const armed: Seen = { state: 'armed', slots: 8, blocks: 100, pendingBlocks: 40, blockSize: 65_536 };

/** Watches a session that is seen so, a look a second. */
async function watch(looks: Seen[], { json = false, terminal = false } = {}) {
  const none = await new FakeSession().status();
  const out = new TextSink();
  Object.assign(out, { isTTY: terminal });
  let at = 0;
  let look = 0;
  const last = await watchStatus({
    spec: 'unix:/x',
    json,
    output: new Output(out, new TextSink()),
    read: async () => {
      const seen = looks[look++] ?? assert.fail('it looked once too often');
      return { ...none, ...seen, counters: { ...none.counters, ...seen.counters } };
    },
    pause: async () => {
      at += 1000;
      return look < looks.length;
    },
    now: () => at,
  });
  return { last, text: out.text, lines: out.text.split('\n').slice(0, -1), looked: look };
}

describe('snapbak status --watch', () => {
  it('says a line a look where it is no terminal, with captures a second', async () => {
    const { lines } = await watch([
      { ...armed, counters: { captured: 10 } },
      { ...armed, counters: { captured: 260, slotsUsed: 4, heldNow: 2, delayedNow: 3, heldMaxNs: 5.25e6 } },
    ]);
    assert.deepEqual(lines, [
      'armed: 40% pending, container 0%, 0 captures/s, 0 delayed and 0 held now, the longest hold 0 ms',
      'armed: 40% pending, container 50%, 250 captures/s, 3 delayed and 2 held now, the longest hold 5.25 ms',
    ]);
  });

  it('draws over itself on a terminal, with the fill as a bar', async () => {
    const { text } = await watch([armed, { ...armed, counters: { slotsUsed: 4, held: 2, heldNs: 3e6 } }], {
      terminal: true,
    });
    const [first = '', second = ''] = text.split('\x1b[5A');
    assert.equal(first.split('\n').length, 6, 'five lines');
    assert.match(first, /\[░{20}\] 0%, 0 of 8 slots of 64 KiB/);
    assert.match(second, /\[█{10}░{10}\] 50%, 4 of 8 slots/);
    assert.match(second, /held: {6}0 now, 2 in all, 1.5 ms each/);
    assert.equal(second.split('\x1b[2K').length - 1, 5, 'each line is cleared first');
    for (const line of second.split('\n')) assert.ok(line.length < 80, line);
  });

  it('gives an object a look as JSON', async () => {
    const { lines } = await watch([armed, { ...armed, counters: { captured: 7 } }], { json: true });
    const [, second] = lines.map((line) => JSON.parse(line));
    assert.equal(second.event, 'status');
    assert.equal(second.session, true);
    assert.equal(second.capturesPerSecond, 7);
    assert.equal(second.counters.captured, 7);
  });

  for (const [how, looks, last] of [
    ['is finished', [armed, { ...armed, state: 'finished' }, armed], 'finished'],
    ['breaks', [armed, { ...armed, state: 'broken', reason: 'closed' }, armed], 'broken'],
    ['is gone', [armed, {}, armed], 'armed'],
    ['is not there', [{}, armed], 'new'],
  ] as [string, Seen[], string][]) {
    it(`ends when the session ${how}`, async () => {
      const watched = await watch(looks);
      assert.equal(watched.last, last);
      assert.equal(watched.looked, looks.length - 1);
    });
  }
});
