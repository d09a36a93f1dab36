import assert from 'node:assert/strict';
import { statusLines } from '../../../lib/cli/status-command.js';
import { FakeSession } from '../../helpers/fake-session.js';

describe('snapbak status', () => {
  it('says that there is no session', async () => {
    const status = await new FakeSession().status();
    assert.deepEqual(statusLines('unix:/x', status), ['unix:/x: fake-disk, 16 MiB', 'no session']);
  });

  it('shows a session that broke, and why', async () => {
    const status = await new FakeSession().status();
    const lines = statusLines('unix:/x', {
      ...status,
      state: 'broken',
      reason: 'hold-timeout',
      errno: -110,
      slots: 8,
      blocks: 100,
      pendingBlocks: 40,
      blockSize: 65_536,
      startTime: Date.UTC(2030, 0, 1),
      armNs: 1_234_567,
      counters: { ...status.counters, held: 3, heldMaxNs: 2e9, slotsUsed: 8 },
    }).join('\n');
    assert.match(lines, /session: {2}broken \(hold-timeout, ETIMEDOUT\)/);
    assert.match(lines, /started: {2}2030-01-01T00:00:00.000Z, writes stood still for 1.235 ms/);
    const frozen = statusLines('/dev/dm-0', { ...status, slots: 8, startTime: 1, armNs: 1e6, freezeNs: 2e6 });
    assert.match(frozen.join('\n'), /stood still for 1 ms, file systems were frozen for 2 ms/);
    assert.match(lines, /pending: {2}40 of 100 blocks of 64 KiB/);
    assert.match(lines, /held: {5}3 writes, 0 now, the longest 2000 ms/);
  });
});
