import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type BackupOptions, startBackup } from '../../../lib/backup.js';
import { FEATURE_HEAT } from '../../../lib/binding.js';
import { LOG_CHANNEL, type LogRecord } from '../../../lib/diagnostics.js';
import { FakeSession, FakeTarget, fakeContainer, fakeOrigin, MiB } from '../../helpers/fake-session.js';

const BLOCK = 65_536;

describe('the option order', () => {
  const heard: LogRecord[] = [];
  const listen = (record: unknown) => heard.push(record as LogRecord);
  beforeEach(() => {
    heard.length = 0;
    subscribe(LOG_CHANNEL, listen);
  });
  afterEach(() => unsubscribe(LOG_CHANNEL, listen));

  /** What a backup asks of a driver that saw a write to block 9 and, long before that, to block 5. */
  async function backedUp(features: number, order?: NonNullable<BackupOptions['order']>) {
    const session = new FakeSession();
    session.info = { ...session.info, features };
    const backup = startBackup({
      origin: fakeOrigin(session),
      target: new FakeTarget(),
      container: fakeContainer([]),
      ...(order === undefined ? {} : { order }),
    });
    session.onStart = () => {
      if (session.prepared?.heat !== true) return;
      const ticks = new Uint32Array(session.info.size / BLOCK);
      ticks[9] = 1000;
      ticks[5] = 900;
      session.heated = { regionSize: BLOCK, now: 1000, ticks };
    };
    await (await backup).abort();
    const told = heard.filter(({ event }) => event === 'order');
    return { heat: session.prepared?.heat, first: session.work[0]?.extents, told };
  }

  it('hot-first asks for the heat, and copies what was written most lately first', async () => {
    const { heat, first, told } = await backedUp(FEATURE_HEAT, 'hot-first');
    assert.equal(heat, true);
    assert.deepEqual(first, [9 * BLOCK, BLOCK, 5 * BLOCK, BLOCK, 0, 16 * MiB - 2 * BLOCK]);
    assert.deepEqual(
      told.map(({ level, message }) => [level, message]),
      [['info', '128 KiB of 16 MiB were written lately and are copied first']],
    );
  });

  it('hot-first is ascending with a driver that keeps no account of writes, and the log says so', async () => {
    const { heat, first, told } = await backedUp(0xff, 'hot-first');
    assert.equal(heat, false, 'an older driver would refuse the flag');
    assert.deepEqual(first, [0, 16 * MiB]);
    assert.equal(told.length, 1);
    assert.equal(told[0]!.level, 'warn');
    assert.match(told[0]!.message, /keeps no account of writes.*ascending/);
    assert.equal(told[0]!.origin, 'unix:/run/fake.control');
  });

  for (const order of [undefined, 'ascending'] as const) {
    it(`is ascending where it is ${order ?? 'not given'}, and asks the driver for nothing`, async () => {
      const { heat, first, told } = await backedUp(FEATURE_HEAT, order);
      assert.equal(heat, false);
      assert.deepEqual(first, [0, 16 * MiB]);
      assert.deepEqual(told, []);
    });
  }

  it('is refused where it is none', async () => {
    const options = { origin: fakeOrigin(new FakeSession()), target: new FakeTarget() };
    await assert.rejects(startBackup({ ...options, order: 'sideways' as 'ascending' }), {
      name: 'RangeError',
      message: /options\.order.*sideways/,
    });
  });
});
