import assert from 'node:assert/strict';
import { interruptible } from '../../../lib/cli/interrupt.js';

describe('interruptible', () => {
  it('aborts at the first signal, leaves at the second, and takes its listeners away', async () => {
    const before = process.listenerCount('SIGTERM');
    const exits: number[] = [];
    await interruptible(
      async (signal) => {
        assert.equal(process.listenerCount('SIGTERM'), before + 1);
        process.emit('SIGTERM', 'SIGTERM');
        assert.equal(signal.aborted, true);
        assert.match(String(signal.reason), /stopped by SIGTERM/);
        assert.deepEqual(exits, []);
        process.emit('SIGINT', 'SIGINT');
      },
      (status) => exits.push(status),
    );
    assert.deepEqual(exits, [130]);
    assert.equal(process.listenerCount('SIGTERM'), before);
  });

  it('takes its listeners away when the work fails', async () => {
    const before = process.listenerCount('SIGINT');
    await assert.rejects(
      interruptible(() => Promise.reject(new Error('no'))),
      /no/,
    );
    assert.equal(process.listenerCount('SIGINT'), before);
  });
});
