import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { constants } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import { type Backup, type BackupOptions, startBackup } from '../../lib/backup.js';
import type { NativeNotice } from '../../lib/binding.js';
import { BlockList } from '../../lib/blocks/block-list.js';
import { LOG_CHANNEL, type LogRecord } from '../../lib/diagnostics.js';
import type { BackupEvent, BlocksEvent } from '../../lib/events.js';
import { dev } from '../helpers/fake-host.js';
import {
  FakeSession,
  FakeTarget,
  fakeContainer,
  fakeInfo,
  fakeOrigin,
  MiB,
  nativeError,
} from '../helpers/fake-session.js';
import { justBefore } from '../helpers/signals.js';

const { errno } = constants;
const BLOCK = 65_536;

function setup(options: Partial<BackupOptions> = {}) {
  const log: string[] = [];
  const session = new FakeSession(log);
  const target = new FakeTarget(log);
  const container = fakeContainer(log);
  const start = () =>
    startBackup({ origin: fakeOrigin(session), target, container, blocks: 'all', ...options });
  return { log, session, target, start };
}

async function all(backup: Backup): Promise<BackupEvent[]> {
  const seen: BackupEvent[] = [];
  for await (const event of backup.events()) seen.push(event);
  return seen;
}

async function until(come: () => boolean): Promise<void> {
  for (let turns = 0; !come(); turns++) {
    assert.ok(turns < 10_000, 'it never came');
    await turn();
  }
}

function closedAll(log: string[]): void {
  assert.deepEqual(log.slice(-3), ['session.close', 'target.close', 'container.close']);
}

describe('startBackup', () => {
  it('opens the session first, then container and target, and fixes the point in time last', async () => {
    const { log, session, start } = setup({ startTimeout: 700 });
    await using backup = await start();
    assert.deepEqual(log, [
      'session.open',
      'container.open',
      'target.prepare',
      'session.prepare',
      'origin.writeDirtyPages',
      'session.flush',
      'session.start 700',
    ]);
    assert.equal(backup.state, 'running');
    assert.equal(backup.startedAt.getTime(), session.startTime);
    assert.match(backup.id, /^[0-9a-f-]{36}$/);
  });

  it('has the documented defaults', async () => {
    const { session, start } = setup();
    await using _backup = await start();
    const { listed, ...prepared } = session.prepared!;
    const { blockSize, holdTimeoutMs, stallTimeoutMs, onFull, slots, watermarkLow, drainTo } = prepared;
    assert.deepEqual(
      { blockSize, holdTimeoutMs, stallTimeoutMs, onFull, slots, watermarkLow, drainTo },
      {
        ...{ blockSize: BLOCK, holdTimeoutMs: 30_000, stallTimeoutMs: 60_000, onFull: 'break' },
        ...{ slots: 64, watermarkLow: 32, drainTo: 48 },
      },
    );
    assert.deepEqual([...listed], [0, 16 * MiB]);
    assert.ok(session.calls.includes('start 10000'));
  });

  it('takes several containers in their order, and lets each second tier move its own end', async () => {
    const log: string[] = [];
    const moves: ((capacity: number) => Promise<void>)[] = [];
    const tier = (description: string, fd: number) => ({
      ...{ description, fd, direct: true, capacity: 4 * MiB },
      begin: (move: (capacity: number) => Promise<void>) => void moves.push(move),
    });
    const container = [
      fakeContainer(log),
      fakeContainer(log, { tiers: [tier('file /a', 7)] }),
      fakeContainer(log, { tiers: [tier('device /dev/b', 8)] }),
    ];
    const { session, start } = setup({ container });
    await using backup = await start();
    assert.deepEqual(
      session.prepared!.tiers.map(({ fd }) => fd),
      [7, 8],
    );
    await moves[1]!(MiB);
    assert.ok(session.calls.includes(`resizeTier 1 ${MiB}`));
    session.figures = {
      tiers: [
        { total: 16, used: 0, lost: true },
        { total: 16, used: 1, lost: false },
      ],
    };
    const events = all(backup);
    session.notify({ kind: 'tier2-lost', errno: -errno.EIO, tier: 0 });
    session.notify({ kind: 'tier2-data', errno: -errno.EIO, tier: 1 });
    await assert.rejects(backup.finished, {
      message: /second tier of the container, device \/dev\/b, failed/,
    });
    const lost = (await events).find(({ event }) => event === 'spill');
    assert.ok(lost?.event === 'spill' && lost.lost && lost.tier === 'file /a');
  });

  it('hands the block list over in whole blocks', async () => {
    const blocks = BlockList.extents([{ offset: 100, length: 5 }]);
    const { session, start } = setup({ blocks, blockSize: 4096 });
    await using _backup = await start();
    assert.deepEqual([...session.prepared!.listed], [0, 4096]);
  });

  const bad: [string, Record<string, unknown>, RegExp, string][] = [
    ['no origin', { origin: undefined }, /options\.origin must be an origin/, 'TypeError'],
    [
      'a path as target',
      { target: '/backup' },
      /target must be made by directoryTarget.*"\/backup"/,
      'TypeError',
    ],
    [
      'a text as container',
      { container: 'memory:1M' },
      /options\.container must be a container/,
      'TypeError',
    ],
    ['extents as blocks', { blocks: [] }, /options\.blocks must be a BlockList/, 'TypeError'],
    ['a block size that is no power of two', { blockSize: 5000 }, /power of two, not 5000/, 'RangeError'],
    ['a block size too small', { blockSize: 2048 }, /blockSize must be from 4096 to 1048576/, 'RangeError'],
    ['a text as block size', { blockSize: '64K' }, /blockSize must be a number/, 'TypeError'],
    ['a rate of 0', { rate: 0 }, /options\.rate must be from 1/, 'RangeError'],
    ['no hold time', { holdTimeout: 0 }, /options\.holdTimeout must be from 1 to 86400000/, 'RangeError'],
    ['another policy', { onFull: 'drop' }, /options\.onFull must be one of break, hold/, 'RangeError'],
    ['a start that waits for ever', { startTimeout: Infinity }, /options\.startTimeout/, 'RangeError'],
    ['an export that is no path', { export: '' }, /options\.export/, 'RangeError'],
    [
      'an export that is no socket address',
      { export: `/${'x'.repeat(200)}` },
      /options\.export/,
      'RangeError',
    ],
    ['a hook that is none', { beforeFreeze: 'fsfreeze' }, /beforeFreeze must be a function/, 'TypeError'],
    ['a hook without time', { hookTimeout: 0 }, /hookTimeout must be from 1 to 600000/, 'RangeError'],
    ['a signal that is none', { signal: {} }, /options\.signal must be an AbortSignal/, 'TypeError'],
    ['an option that is misspelt', { blocksize: 4096 }, /options\.blocksize is not an option/, 'TypeError'],
  ];
  for (const [what, options, message, name] of bad) {
    it(`refuses ${what} before anything is opened`, async () => {
      const { log, start } = setup(options as Partial<BackupOptions>);
      await assert.rejects(start(), { name, message });
      assert.deepEqual(log, []);
    });
  }

  it('refuses options that are no object', async () => {
    await assert.rejects(startBackup(undefined as never), TypeError);
  });

  it('refuses a block list past the end, and a block size that the driver has not', async () => {
    const past = setup({ blocks: BlockList.all(17 * MiB) });
    await assert.rejects(past.start(), {
      name: 'RangeError',
      message: /end of the origin \(16777216 bytes\)/,
    });
    assert.deepEqual(past.log, ['session.open', 'session.close']);
    const small = setup({ blockSize: 4096 });
    small.session.info = { ...fakeInfo(), minBlockSize: 8192 };
    await assert.rejects(small.start(), {
      name: 'RangeError',
      message: /from 8192 to 1048576 for this driver/,
    });
  });

  it('tells a busy origin before anything is created', async () => {
    const { log, session, start } = setup();
    session.failing.set('open', nativeError(errno.EBUSY, 'open'));
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_BUSY', path: 'unix:/run/fake.control' });
    assert.deepEqual(log, ['session.open', 'session.close']);
  });

  it('does not start once it is aborted, though dirty pages are still being written', async () => {
    const controller = new AbortController();
    const { log, session, target } = setup();
    const origin = fakeOrigin(session);
    origin.writeDirtyPages = () => {
      controller.abort('changed my mind');
      return new Promise(() => {});
    };
    const { signal } = controller;
    const starting = startBackup({ origin, target, container: fakeContainer(log), signal });
    await assert.rejects(starting, { code: 'ERR_SNAPBAK_ABORTED', message: /changed my mind/ });
    assert.ok(!log.some((call) => call.startsWith('session.start')));
    closedAll(log);
  });

  it('does not write dirty pages when it is aborted just before', async () => {
    const controller = new AbortController();
    const { log, start } = setup({ signal: justBefore(controller, () => true) });
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_ABORTED', message: /just before/ });
    assert.ok(!log.includes('origin.writeDirtyPages'));
    closedAll(log);
  });

  it('does not wait for the lower device to be flushed once it is aborted, nor begins with the hook', async () => {
    const controller = new AbortController();
    const { log, session, start } = setup({
      signal: controller.signal,
      beforeFreeze: () => assert.fail('the hook was called'),
    });
    session.waiting.set('flush', new Promise(() => {}));
    const starting = start();
    await until(() => log.includes('session.flush'));
    controller.abort('changed my mind');
    await assert.rejects(starting, { code: 'ERR_SNAPBAK_ABORTED', message: /changed my mind/ });
    closedAll(log);
  });

  it('says at which device the start failed', async () => {
    const { session, start } = setup();
    session.failing.set('start', Object.assign(nativeError(errno.EIO, 'start'), { device: dev(253, 4) }));
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_IO', message: /EIO at device 253:4$/ });
  });

  for (const [asked, options, level] of [
    ['by default', { blocks: undefined as never }, 'info'],
    ['asked for', { blocks: 'used' }, 'warn'],
  ] as const) {
    it(`looks for used blocks behind the start instant, ${asked}, and lists all where it cannot`, async () => {
      const { log, session, start } = setup(options);
      session.failing.set('openView', nativeError(errno.EOPNOTSUPP, 'view'));
      const told: LogRecord[] = [];
      const listen = (record: unknown) => told.push(record as LogRecord);
      subscribe(LOG_CHANNEL, listen);
      await using backup = await start();
      unsubscribe(LOG_CHANNEL, listen);
      assert.deepEqual(log.slice(-2), ['session.start 10000', 'session.openView']);
      assert.deepEqual(
        told.filter(({ event }) => event === 'blocks').map((record) => record.level),
        [level],
      );
      const events = all(backup);
      await backup.abort();
      const [started, found] = await events;
      assert.deepEqual([started?.event, found?.event], ['started', 'blocks']);
      const { parts, listedBytes } = found as BlocksEvent;
      assert.match(parts[0]?.reason ?? '', /start instant cannot be read: .*method read/);
      assert.equal(listedBytes, 16 * MiB);
    });
  }

  it('undoes every earlier step when a later one fails', async () => {
    const refused = setup();
    refused.target.prepareError = new Error('it exists');
    await assert.rejects(refused.start(), /it exists/);
    assert.deepEqual(refused.log.slice(-2), ['session.close', 'container.close']);
    const marks = setup({ watermarks: { low: 0.9, high: 0.1 } });
    await assert.rejects(marks.start(), /watermarks must be in the order/);
    closedAll(marks.log);
    for (const step of ['prepare', 'start'] as const) {
      const { log, session, target, start } = setup();
      session.failing.set(step, nativeError(errno.ETIMEDOUT, step === 'start' ? 'start' : 'setup'));
      const code = step === 'start' ? 'ERR_SNAPBAK_START_TIMEOUT' : 'ERR_SNAPBAK_IO';
      await assert.rejects(start(), { code });
      closedAll(log);
      assert.equal(target.failed, undefined, 'a target that never began is removed, not marked');
    }
  });

  it('still closes the rest when closing one fails', async () => {
    const { log, session, start } = setup();
    session.failing.set('start', nativeError(errno.EIO, 'start'));
    session.failing.set('close', new Error('stuck'));
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_IO' });
    closedAll(log);
  });

  it('runs beforeFreeze when all is prepared, and writes what it left dirty before the start', async () => {
    const hook = (name: string) => async () => void log.push(name);
    const { log, start } = setup({ beforeFreeze: hook('beforeFreeze'), afterThaw: hook('afterThaw') });
    await using _backup = await start();
    assert.deepEqual(log.slice(-8), [
      'session.prepare',
      'origin.writeDirtyPages',
      'session.flush',
      'beforeFreeze',
      'origin.writeDirtyPages',
      'session.flush',
      'session.start 10000',
      'afterThaw',
    ]);
  });

  it('starts nothing when beforeFreeze fails: the application is let go, all is given back', async () => {
    const log: string[] = [];
    const { start, ...rest } = setup({
      beforeFreeze: () => Promise.reject(new Error('the database is down')),
      afterThaw: ({ started }) => void log.push(`afterThaw ${started}`),
    });
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_HOOK', message: /the database is down/ });
    assert.deepEqual(log, ['afterThaw false']);
    assert.ok(!rest.log.some((call) => call.startsWith('session.start')));
    closedAll(rest.log);
  });

  it('calls no hook when it does not get as far as the start', async () => {
    const hook = () => assert.fail('a hook was called');
    const { session, start } = setup({ beforeFreeze: hook, afterThaw: hook });
    session.failing.set('prepare', nativeError(errno.ENOMEM, 'setup'));
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_IO' });
  });

  it('does not begin under a signal that is aborted', async () => {
    const { log, start } = setup({ signal: AbortSignal.abort(new Error('too late')) });
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_ABORTED', message: /too late/ });
    assert.deepEqual(log, []);
  });

  it('undoes a start that is aborted while it waits', async () => {
    const controller = new AbortController();
    const { log, session, start } = setup({ signal: controller.signal });
    let go = () => {};
    session.waiting.set(
      'start',
      new Promise((resolve) => {
        go = resolve;
      }),
    );
    const starting = start();
    await turn();
    controller.abort();
    go();
    await assert.rejects(starting, { code: 'ERR_SNAPBAK_ABORTED' });
    closedAll(log);
  });
});

describe('Backup', () => {
  it('copies what other processes hint at before the list, the newest first', async () => {
    const { session, start } = setup({ rate: 64 * MiB });
    const backup = await start();
    const given = session.work.length;
    session.hints.push(8 * MiB, BLOCK, 12 * MiB, BLOCK);
    session.notify({ kind: 'hint' });
    assert.equal(session.hints.length, 0, 'it did not take them');
    while (session.work.length < given + 3) await new Promise((resolve) => setTimeout(resolve, 10));
    const [first, second, third] = session.work.slice(given);
    assert.deepEqual(first, { extents: [12 * MiB, BLOCK], priority: true });
    assert.deepEqual(second, { extents: [8 * MiB, BLOCK], priority: true });
    assert.equal(third?.priority, false);
    await backup.abort();
    session.hints.push(0, BLOCK);
    session.notify({ kind: 'hint' });
  });

  it('tells that afterThaw failed though the start is given up for another reason', async () => {
    const controller = new AbortController();
    const afterThaw = () => {
      controller.abort(new Error('changed my mind'));
      throw new Error('cannot unlock');
    };
    const { start } = setup({ afterThaw, signal: controller.signal });
    await assert.rejects(start(), {
      code: 'ERR_SNAPBAK_ABORTED',
      message: /changed my mind.*may not have been let go.*cannot unlock/,
    });
  });

  it('is good though afterThaw failed, tells it, and ends after it', async () => {
    let fail = (_: Error) => {};
    const afterThaw = () =>
      new Promise<void>((_, reject) => {
        fail = reject;
      });
    const { session, target, start } = setup({ afterThaw });
    const backup = await start();
    const events = all(backup);
    session.notify({ kind: 'complete' });
    while (target.closed === 0) await turn();
    await turn();
    assert.equal(backup.state, 'finishing', 'it did not wait for afterThaw');
    fail(new Error('no connection'));
    assert.equal((await backup.finished).state, 'complete');
    const hook = (await events).find(({ event }) => event === 'hook');
    assert.ok(hook?.event === 'hook' && hook.code === 'ERR_SNAPBAK_HOOK');
    assert.match(hook.message, /no connection/);
    assert.equal((await events).at(-1)?.event, 'finished');
  });

  it('tells how long file systems were frozen: in its events, its figures and its manifest', async () => {
    const { session, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    assert.equal(backup.stats().freezeMs, 2.5);
    session.notify({ kind: 'complete' });
    const { stats } = await backup.finished;
    assert.deepEqual([stats.armMs, stats.freezeMs], [1.5, 2.5]);
    assert.equal(target.committed?.statistics.freezeMs, 2.5);
    assert.equal(target.committed?.statistics.armMs, 1.5);
    const started = (await events)[0];
    assert.ok(started?.event === 'started' && started.freezeMs === 2.5);
  });

  it('finishes in order: the driver, the manifest, then everything is given back', async () => {
    const { log, session, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    session.figures = { doneBlocks: 256, sweptBlocks: 250, capturedBlocks: 6 };
    log.length = 0;
    session.notify({ kind: 'complete' });
    assert.equal(backup.state, 'finishing');
    const result = await backup.finished;
    assert.deepEqual(log, [
      'session.finish',
      'target.commit',
      'session.close',
      'target.close',
      'container.close',
    ]);
    assert.equal(backup.state, 'finished');
    assert.equal(result.state, 'complete');
    assert.equal(result.id, backup.id);
    assert.equal(result.stats.doneBytes, 16 * MiB);
    assert.deepEqual(result.invalidBlocks, []);
    assert.equal(target.committed?.state, 'complete');
    assert.equal(target.committed?.startedAt, '2030-01-02T03:04:05.000Z');
    assert.deepEqual(target.committed?.blocks, [[0, 16 * MiB]]);
    assert.equal(target.committed?.statistics.capturedBlocks, 6);
    assert.deepEqual(
      (await events).map(({ event }) => event),
      ['started', 'progress', 'finished'],
    );
  });

  it('takes notices that came before the point in time was known', async () => {
    const { session, start } = setup();
    const real = session.start.bind(session);
    session.start = async (ms) => {
      session.notify({ kind: 'complete' });
      return real(ms);
    };
    const backup = await start();
    assert.equal((await backup.finished).state, 'complete');
  });

  it('finishes with invalid blocks, and says which', async () => {
    const { session, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    for (const block of [9, 3, 4]) session.notify({ kind: 'invalid', block, errno: -errno.EIO });
    session.notify({ kind: 'complete' });
    const result = await backup.finished;
    assert.equal(result.state, 'complete-with-invalid-blocks');
    assert.deepEqual(result.invalidBlocks, [
      { offset: 3 * BLOCK, length: 2 * BLOCK },
      { offset: 9 * BLOCK, length: BLOCK },
    ]);
    assert.deepEqual(target.committed?.invalidBlocks, [
      [3 * BLOCK, 2 * BLOCK],
      [9 * BLOCK, BLOCK],
    ]);
    const told = (await events).filter(({ event }) => event === 'invalid-block');
    assert.deepEqual(told[0], {
      event: 'invalid-block',
      block: 9,
      extent: { offset: 9 * BLOCK, length: BLOCK },
      errno: -errno.EIO,
    });
    assert.equal(told.length, 3);
  });

  const ends: [NativeNotice, string, RegExp][] = [
    [
      { kind: 'broken', reason: 'hold-timeout', errno: 0 },
      'ERR_SNAPBAK_HOLD_TIMEOUT',
      /longer than 30000 ms/,
    ],
    [{ kind: 'broken', reason: 'stalled', errno: 0 }, 'ERR_SNAPBAK_STALLED', /drained for 60000 ms/],
    [{ kind: 'broken', reason: 'protocol', errno: 0 }, 'ERR_SNAPBAK_PROTOCOL', /shared memory/],
    [{ kind: 'broken', reason: 'origin-gone', errno: 0 }, 'ERR_SNAPBAK_BROKEN', /closed or removed/],
    [{ kind: 'broken', reason: 'closed', errno: -errno.EIO }, 'ERR_SNAPBAK_BROKEN', /\(EIO\)/],
    [{ kind: 'driver-gone' }, 'ERR_SNAPBAK_DRIVER_GONE', /driver is gone/],
    [{ kind: 'tier2-data', errno: -errno.EIO, tier: 0 }, 'ERR_SNAPBAK_CONTAINER_LOST', /second tier .*EIO/],
    [
      { kind: 'target-error', errno: -errno.ENOSPC },
      'ERR_SNAPBAK_TARGET',
      /a fake target failed \(ENOSPC\).*make room/,
    ],
  ];
  for (const [notice, code, message] of ends) {
    const name = notice.kind === 'broken' ? `broken (${notice.reason})` : notice.kind;
    it(`breaks with ${code} on ${name}: writers are let go first, no good manifest is left`, async () => {
      const { log, session, target, start } = setup();
      const backup = await start();
      const events = all(backup);
      log.length = 0;
      session.notify(notice);
      assert.equal(backup.state, 'broken');
      session.notify({ kind: 'complete' }); // too late to be good
      await assert.rejects(backup.finished, { code, message });
      assert.deepEqual(log, [
        'session.abort',
        'target.fail',
        'session.close',
        'target.close',
        'container.close',
      ]);
      assert.equal(target.failed?.state, 'broken');
      assert.equal(target.failed?.error?.code, code);
      assert.equal(target.committed, undefined);
      const last = (await events).at(-1);
      assert.ok(last?.event === 'broken' && last.code === code);
    });
  }

  it('carries what a target written in JavaScript threw as the cause', async () => {
    const cause = new Error('the bucket is gone');
    const { session, target, start } = setup();
    target.native = { write: () => Promise.reject(cause), flush() {} };
    const backup = await start();
    const native = session.prepared!.target as { write(offset: number, data: Buffer): Promise<void> };
    await assert.rejects(native.write(0, Buffer.alloc(1)), cause);
    session.notify({ kind: 'target-error', errno: -errno.EIO });
    await assert.rejects(backup.finished, {
      code: 'ERR_SNAPBAK_TARGET',
      cause,
      message: /the bucket is gone/,
    });
  });

  it('fails, and leaves no good manifest, when it cannot be made durable', async () => {
    const { session, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    target.commitError = Object.assign(nativeError(errno.ENOSPC, 'target'));
    session.notify({ kind: 'complete' });
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_TARGET' });
    assert.equal(backup.state, 'failed');
    assert.equal(target.failed?.state, 'broken');
    assert.equal((await events).at(-1)?.event, 'error');
  });

  it('is broken, not failed, when the driver goes while it finishes', async () => {
    const { session, start } = setup();
    const backup = await start();
    let fail = (_: Error) => {};
    session.waiting.set(
      'finish',
      new Promise((_, reject) => {
        fail = reject;
      }),
    );
    session.notify({ kind: 'complete' });
    session.notify({ kind: 'driver-gone' });
    fail(nativeError(errno.EPIPE, 'finish'));
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_DRIVER_GONE', message: /its driver is gone/ });
    assert.equal(backup.state, 'broken');
  });

  it('stays good when the driver goes after it agreed', async () => {
    const { session, start } = setup();
    const backup = await start();
    session.notify({ kind: 'complete' });
    session.notify({ kind: 'driver-gone' });
    assert.equal((await backup.finished).state, 'complete');
  });

  it('aborts: writers go on, everything is given back, the reason is told', async () => {
    const { log, session, target, start } = setup();
    const backup = await start();
    const reason = new Error('changed my mind');
    log.length = 0;
    await backup.abort(reason);
    assert.equal(backup.state, 'aborted');
    assert.equal(log[0], 'session.abort');
    closedAll(log);
    await assert.rejects(backup.finished, {
      code: 'ERR_SNAPBAK_ABORTED',
      cause: reason,
      message: /changed my mind/,
    });
    assert.equal(target.failed?.error?.code, 'ERR_SNAPBAK_ABORTED');
    const calls = session.calls.length;
    await backup.abort();
    assert.equal(session.calls.length, calls, 'a second abort does nothing');
  });

  it('aborts while it finishes, but not once the manifest is being written', async () => {
    const early = setup();
    const backup = await early.start();
    let go = () => {};
    early.session.waiting.set(
      'finish',
      new Promise((resolve) => {
        go = resolve;
      }),
    );
    early.session.notify({ kind: 'complete' });
    const aborting = backup.abort('stop');
    go();
    await aborting;
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED' });
    assert.equal(backup.state, 'aborted');
    assert.equal(early.target.committed, undefined);

    const late = setup();
    const good = await late.start();
    late.session.notify({ kind: 'complete' });
    while (!late.log.includes('target.commit')) await turn();
    await good.abort();
    assert.equal(good.state, 'finished');
    assert.equal((await good.finished).state, 'complete');
  });

  it('aborts by its signal, and takes its listener away at the end', async () => {
    const controller = new AbortController();
    const { signal } = controller;
    let listeners = 0;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = ((...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    }) as typeof add;
    signal.removeEventListener = ((...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    }) as typeof remove;
    const good = setup({ signal });
    const backup = await good.start();
    assert.equal(listeners, 1);
    good.session.notify({ kind: 'complete' });
    await backup.finished;
    assert.equal(listeners, 0);
    const other = await setup({ signal }).start();
    controller.abort('by signal');
    await assert.rejects(other.finished, { code: 'ERR_SNAPBAK_ABORTED', message: /by signal/ });
  });

  it('aborts by a signal that fires just before anybody listens to it', async () => {
    const controller = new AbortController();
    const log: string[] = [];
    const started = () => log.some((call) => call.startsWith('session.start'));
    const signal = justBefore(controller, started);
    const origin = fakeOrigin(new FakeSession(log));
    const backup = await startBackup({ origin, target: new FakeTarget(log), blocks: 'all', signal });
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED', message: /just before/ });
  });

  it('aborts though its target never says that it has flushed', async () => {
    const { log, session, start } = setup();
    const backup = await start();
    let cancel = () => {};
    const flushing = new Promise<void>((_resolve, reject) => {
      cancel = () => reject(nativeError(errno.ECANCELED, 'target'));
    });
    session.waiting.set('finish', flushing);
    const abort = session.abort.bind(session);
    session.abort = () => {
      cancel(); // as the addon does with a target of the application's own
      return abort();
    };
    session.notify({ kind: 'complete' });
    await backup.abort('no patience');
    assert.equal(backup.state, 'aborted');
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED', message: /no patience/ });
    closedAll(log);
  });

  it('raises no unhandled rejection when nobody listens, and ends when it is disposed of', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    const { log, start } = setup();
    {
      await using _backup = await start();
    }
    await turn();
    await turn();
    process.off('unhandledRejection', note);
    assert.deepEqual(unhandled, []);
    closedAll(log);
  });

  it('pauses and resumes the sweep only', async () => {
    const { session, start } = setup();
    await using backup = await start();
    session.work.length = 0;
    backup.pause();
    backup.pause();
    assert.equal(backup.state, 'paused');
    session.notify({ kind: 'need-work' });
    assert.deepEqual(session.work, []);
    backup.resume();
    backup.resume();
    assert.equal(backup.state, 'running');
    assert.deepEqual(session.calls.slice(-2), ['pause', 'resume']);
  });

  it('finishes from a pause too, if writers made everything safe', async () => {
    const { session, start } = setup();
    const backup = await start();
    backup.pause();
    session.notify({ kind: 'complete' });
    assert.equal((await backup.finished).state, 'complete');
  });

  it('hands work and wishes to the copy threads', async () => {
    const { session, start } = setup();
    await using backup = await start();
    backup.prioritize([{ offset: 5 * BLOCK + 1, length: 1 }]);
    assert.deepEqual(session.work, [
      { extents: [0, 16 * MiB], priority: false },
      { extents: [5 * BLOCK, BLOCK], priority: true },
    ]);
    assert.throws(() => backup.prioritize([{ offset: 16 * MiB, length: 1 }]), RangeError);
  });

  it('checks a new rate', async () => {
    const { start } = setup({ rate: 1000 });
    await using backup = await start();
    assert.throws(() => backup.setRate(0), { name: 'RangeError', message: /bytesPerSecond must be from 1/ });
    assert.throws(() => backup.setRate('1M' as never), TypeError);
    backup.setRate(undefined);
    backup.setRate(5_000_000);
  });

  it('keeps its last figures after the end, and takes orders without effect', async () => {
    const { session, start } = setup();
    const backup = await start();
    session.figures = { doneBlocks: 17 };
    await backup.abort();
    session.figures = { doneBlocks: 99 };
    assert.equal(backup.stats().doneBlocks, 17);
    backup.pause();
    backup.resume();
    backup.setRate(5);
    backup.prioritize([{ offset: 0, length: 1 }]);
    assert.equal(backup.state, 'aborted');
    assert.deepEqual(
      (await all(backup)).map(({ event }) => event),
      ['started', 'broken'],
    );
  });
});
