// Everything goes wrong, at any time: kills, errors, short transfers, delays,
// on origin, container, target and control socket. The long form, and how to
// repeat a session: npm run chaos -- --help
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { again, plansOf, runCampaign } from '../chaos/campaign.js';

/** These meet a good part of all there is, each time. */
const KNOWN = 4;
const FRESH = randomInt(2 ** 31);

function* plans() {
  yield* plansOf(KNOWN, ['embedded', 'user'], { from: 0, sessions: 18 });
  yield* plansOf(FRESH, ['embedded', 'user'], { from: 0, sessions: 10 });
}

describe('chaos, with the embedded and the user driver in turn', () => {
  it(`loses no write, holds none past its bound, calls no bad backup good, leaves nothing (seeds ${KNOWN}, ${FRESH})`, async function () {
    this.timeout(300_000);
    const summary = await runCampaign({ plans: plans(), rows: 3 });
    const told = summary.failures.map((failure) => `${again(failure)}\n${failure.wrong.join('\n')}`);
    assert.deepEqual([...told, ...summary.wrong], [], summary.folder);
    assert.equal(summary.sessions, 28);
    assert.ok(summary.requests > 1000, `${summary.requests} requests of writers only`);
    assert.ok(summary.captured > 100 && summary.held > 0, 'no writer met a backup');
    const ends = Object.keys(summary.ends);
    assert.ok(ends.includes('complete') && ends.includes('ERR_SNAPBAK_TARGET'), ends.join(', '));
    assert.ok(ends.length >= 4, ends.join(', '));
  });
});
