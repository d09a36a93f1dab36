import assert from 'node:assert/strict';
import { whileStarting } from '../../lib/start-signal.js';

describe('whileStarting', () => {
  it('ends a start by the signal, with its reason', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const started = whileStarting(
      controller.signal,
      (signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    );
    controller.abort(reason);
    await assert.rejects(started, (error) => error === reason);
    await whileStarting(controller.signal, async (signal) => assert.equal(signal.reason, reason));
  });

  it('leaves what was started alone', async () => {
    const controller = new AbortController();
    const given = await whileStarting(controller.signal, async (signal) => signal);
    controller.abort();
    assert.equal(given.aborted, false);
    assert.equal((await whileStarting(undefined, async (signal) => signal)).aborted, false);
  });
});
