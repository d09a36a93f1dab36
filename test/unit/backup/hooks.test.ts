import assert from 'node:assert/strict';
import { type HookContext, Hooks, type HooksOptions, type ThawContext } from '../../../lib/backup/hooks.js';
import { SnapbakError } from '../../../lib/errors.js';
import { justBefore } from '../../helpers/signals.js';

const INSTANT = { startedAt: new Date(0), armMs: 1.5, freezeMs: 2.5 };

function setup(options: Partial<HooksOptions> = {}) {
  const log: string[] = [];
  const told: ThawContext[] = [];
  const hooks = new Hooks({
    beforeFreeze: async () => void log.push('beforeFreeze'),
    afterThaw: async (context) => {
      log.push('afterThaw');
      told.push(context);
    },
    hookTimeout: 10_000,
    id: 'an-id',
    origins: ['unix:/run/x', '/dev/mapper/y'],
    ...options,
  });
  const start = async () => {
    log.push('start');
    return INSTANT;
  };
  return { log, told, hooks, start };
}

/** A hook that ends when it is told to, or never. */
function endless(obeys: boolean) {
  return ({ signal }: HookContext) =>
    new Promise<void>((_, reject) => {
      if (obeys) signal.addEventListener('abort', () => reject(signal.reason));
    });
}

describe('hooks', () => {
  it('run before and after the start, and are told what it is about', async () => {
    const { log, told, hooks, start } = setup();
    assert.equal(await hooks.around(start), INSTANT);
    assert.equal(await hooks.thawed, undefined);
    assert.deepEqual(log, ['beforeFreeze', 'start', 'afterThaw']);
    const { signal, ...rest } = told[0]!;
    assert.deepEqual(rest, {
      id: 'an-id',
      origin: 'unix:/run/x /dev/mapper/y',
      origins: ['unix:/run/x', '/dev/mapper/y'],
      started: true,
      ...INSTANT,
    });
    assert.equal(signal.aborted, false);
  });

  it('are not needed', async () => {
    const { log, hooks, start } = setup({ beforeFreeze: undefined, afterThaw: undefined });
    assert.equal(hooks.quiesces, false);
    assert.equal(await hooks.around(start), INSTANT);
    assert.equal(await hooks.thawed, undefined);
    assert.deepEqual(log, ['start']);
  });

  it('do not keep the backup waiting for afterThaw', async () => {
    let letGo = () => {};
    const afterThaw = () =>
      new Promise<void>((resolve) => {
        letGo = resolve;
      });
    const { hooks, start } = setup({ afterThaw });
    assert.equal(await hooks.around(start), INSTANT);
    letGo();
    assert.equal(await hooks.thawed, undefined);
  });

  const failures: [string, HooksOptions['beforeFreeze'], RegExp][] = [
    ['rejects', async () => Promise.reject(new Error('the database is down')), /the database is down/],
    [
      'throws',
      () => {
        throw new Error('no such table');
      },
      /no such table/,
    ],
    ['rejects with no error', () => Promise.reject('a text'), /a text/],
  ];
  for (const [how, beforeFreeze, message] of failures) {
    it(`give the start up when beforeFreeze ${how}, and still let the application go`, async () => {
      const { log, told, hooks, start } = setup({ beforeFreeze });
      const error = await hooks.around(start).catch((thrown) => thrown);
      assert.ok(SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_HOOK');
      assert.match(error.message, message);
      assert.match(error.message, /the backup of unix:\/run\/x \/dev\/mapper\/y was not started/);
      assert.deepEqual(log, ['afterThaw']);
      assert.equal(told[0]?.started, false);
      assert.equal(told[0]?.error, error);
    });
  }

  for (const obeys of [true, false]) {
    it(`give the start up when beforeFreeze takes too long and ${obeys ? 'stops' : 'does not stop'} then`, async () => {
      const { log, hooks, start } = setup({ beforeFreeze: endless(obeys), hookTimeout: 20, grace: 20 });
      await assert.rejects(hooks.around(start), {
        code: 'ERR_SNAPBAK_HOOK',
        message: /did not end within 20 ms/,
      });
      assert.deepEqual(log, ['afterThaw']);
    });
  }

  it('give the start up though a late beforeFreeze ends well after all', async () => {
    const beforeFreeze = ({ signal }: HookContext) =>
      new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    const { log, hooks, start } = setup({ beforeFreeze, hookTimeout: 20 });
    await assert.rejects(hooks.around(start), { code: 'ERR_SNAPBAK_HOOK' });
    assert.deepEqual(log, ['afterThaw']);
  });

  it('call afterThaw once more when a beforeFreeze that was given up comes to its end', async () => {
    let end = () => {};
    const beforeFreeze = () =>
      new Promise<void>((resolve) => {
        end = resolve;
      });
    const { log, hooks, start } = setup({ beforeFreeze, hookTimeout: 10, grace: 10 });
    await assert.rejects(hooks.around(start), { code: 'ERR_SNAPBAK_HOOK' });
    assert.deepEqual(log, ['afterThaw']);
    end();
    await new Promise((resolve) => setImmediate(resolve));
    await hooks.thawed;
    assert.deepEqual(log, ['afterThaw', 'afterThaw']);
  });

  it('stop beforeFreeze when the backup was aborted just before, and still call afterThaw', async () => {
    const signal = justBefore(new AbortController(), () => true);
    const { log, hooks, start } = setup({ beforeFreeze: endless(true), signal });
    await assert.rejects(hooks.around(start), { code: 'ERR_SNAPBAK_ABORTED', message: /just before/ });
    assert.deepEqual(log, ['afterThaw']);
  });

  it('stop beforeFreeze when the backup is aborted, and still call afterThaw', async () => {
    const controller = new AbortController();
    const { log, hooks, start } = setup({ beforeFreeze: endless(true), signal: controller.signal });
    const starting = hooks.around(start);
    controller.abort(new Error('changed my mind'));
    await assert.rejects(starting, { code: 'ERR_SNAPBAK_ABORTED', message: /changed my mind/ });
    assert.deepEqual(log, ['afterThaw']);
  });

  it('let the application go when the start fails, and say why it failed', async () => {
    const { log, told, hooks } = setup();
    const failed = new Error('writes did not end');
    await assert.rejects(
      hooks.around(() => Promise.reject(failed)),
      failed,
    );
    assert.deepEqual(log, ['beforeFreeze', 'afterThaw']);
    assert.equal(told[0]?.error, failed);
  });

  it('say that the application may still stand still when the start and afterThaw fail', async () => {
    const { hooks } = setup({ afterThaw: async () => Promise.reject(new Error('no connection')) });
    const failed = new SnapbakError('ERR_SNAPBAK_START_TIMEOUT', 'too slow', { path: '/x', errno: -110 });
    await assert.rejects(
      hooks.around(() => Promise.reject(failed)),
      {
        code: 'ERR_SNAPBAK_START_TIMEOUT',
        path: '/x',
        errno: -110,
        cause: failed,
        message: /^too slow; .*no connection/,
      },
    );
  });

  it('tell of an afterThaw that fails or takes too long, and spoil nothing', async () => {
    const fails = setup({ afterThaw: async () => Promise.reject(new Error('no connection')) });
    await fails.hooks.around(fails.start);
    assert.match((await fails.hooks.thawed)?.message ?? '', /may not have been let go.*no connection/);
    const late = setup({ afterThaw: endless(false), hookTimeout: 20, grace: 1 });
    await late.hooks.around(late.start);
    assert.equal((await late.hooks.thawed)?.code, 'ERR_SNAPBAK_HOOK');
  });
});
