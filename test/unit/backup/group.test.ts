import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { RunningBackup } from '../../../lib/backup/running.js';
import { type Backup, type BackupOptions, startBackup } from '../../../lib/backup.js';
import { BACKUP_CHANNEL, type BackupMessage } from '../../../lib/diagnostics.js';
import { SnapbakError } from '../../../lib/errors.js';
import type { BackupEvent } from '../../../lib/events.js';
import type { GroupManifest } from '../../../lib/manifest.js';
import { directoryTarget } from '../../../lib/target/directory-target.js';
import type { BackupTarget } from '../../../lib/target/target.js';
import { Cleanup } from '../../helpers/cleanup.js';
import {
  FakeSession,
  FakeTarget,
  fakeInfo,
  fakeOrigin,
  MiB,
  nativeError,
} from '../../helpers/fake-session.js';
import { openFiles } from '../../helpers/processes.js';
import { justBefore } from '../../helpers/signals.js';

const { errno } = constants;

function setup(options: Partial<BackupOptions> = {}) {
  const log: string[] = [];
  const [a, b] = [new FakeSession(log), new FakeSession(log)];
  b.info = fakeInfo(8 * MiB);
  const target = new FakeTarget(log);
  const origins = [fakeOrigin(a, '/dev/mapper/a'), fakeOrigin(b, 'unix:/run/b.control')];
  const start = (more: Partial<BackupOptions> = {}) =>
    startBackup({ origins, target, blocks: 'all', ...options, ...more });
  return { log, a, b, target, start };
}

async function all(backup: Backup<GroupManifest>): Promise<BackupEvent[]> {
  const seen: BackupEvent[] = [];
  for await (const event of backup.events()) seen.push(event);
  return seen;
}

/** A promise, and what resolves it. */
function gate(): { shut: Promise<void>; open: () => void } {
  let open = () => {};
  const shut = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { shut, open };
}

/** The same target; the backup is aborted while it is made. */
function abortedMeanwhile(target: BackupTarget, controller: AbortController): BackupTarget {
  return {
    ...target,
    prepare: (context) => target.prepare(context),
    async prepareGroup(disks) {
      const group = await target.prepareGroup!(disks);
      controller.abort('enough');
      return group;
    },
  };
}

const kinds = (events: BackupEvent[]) =>
  events
    .filter(({ event }) => event !== 'progress')
    .map((event) => [event.event, 'disk' in event ? event.disk : '']);

describe('a backup of several origins', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('takes each step with all of them before the next, and starts them as one', async () => {
    const { log, start, a } = setup({ startTimeout: 700 });
    await using backup = await start();
    assert.deepEqual(log, [
      'session.open',
      'session.open',
      'target.prepareGroup a,b',
      'session.prepare',
      'session.prepare',
      'origin.writeDirtyPages',
      'session.flush',
      'origin.writeDirtyPages',
      'session.flush',
      'session.startTogether 2',
      'session.start 700',
      'session.start 700',
    ]);
    assert.equal(backup.startedAt.getTime(), a.startTime);
    assert.equal(backup.state, 'running');
  });

  it('is as of the earliest instant that was told, when all stood still', async () => {
    const { a, b, start } = setup();
    a.startTime += 5;
    b.startTime += 3;
    await using backup = await start();
    assert.equal(backup.startedAt.getTime(), b.startTime);
  });

  it('is complete when all are, with one manifest behind everything else', async () => {
    const { log, a, b, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    a.notify({ kind: 'complete' });
    await turn();
    assert.ok(!log.includes('target.seal'), 'the manifest waits for the last');
    assert.equal(backup.state, 'running');
    b.notify({ kind: 'complete' });
    const result = await backup.finished;
    assert.equal(backup.state, 'finished');
    assert.equal(result.state, 'complete');
    assert.deepEqual(
      result.disks?.map(({ name, origin, state }) => [name, origin, state]),
      [
        ['a', '/dev/mapper/a', 'complete'],
        ['b', 'unix:/run/b.control', 'complete'],
      ],
    );
    assert.equal(result.manifest, target.sealed);
    assert.equal(target.sealed?.state, 'complete');
    assert.equal(target.sealed?.id, backup.id);
    assert.deepEqual(
      target.sealed?.disks.map(({ name, size }) => [name, size]),
      [
        ['a', 16 * MiB],
        ['b', 8 * MiB],
      ],
    );
    assert.ok(log.indexOf('target.seal') > Math.max(log.indexOf('a.commit'), log.indexOf('b.commit')));
    assert.equal(log.at(-1), 'target.close');
    assert.deepEqual(kinds(await events), [
      ['started', ''],
      ['disk', 'a'],
      ['disk', 'b'],
      ['finished', ''],
    ]);
  });

  it('goes on when one breaks, is broken at the end, and the manifest says which', async () => {
    const { a, b, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    b.notify({ kind: 'driver-gone' });
    await turn();
    assert.equal(backup.state, 'running');
    assert.ok(!a.calls.includes('abort'), 'the other is left alone');
    a.notify({ kind: 'complete' });
    await assert.rejects(backup.finished, {
      code: 'ERR_SNAPBAK_DRIVER_GONE',
      message: /^1 of 2 disks broke: b: .*its driver is gone.*; good, and to be restored by name: a$/s,
    });
    assert.equal(backup.state, 'broken');
    assert.equal(target.sealed?.state, 'broken');
    assert.equal(target.sealed?.error?.code, 'ERR_SNAPBAK_DRIVER_GONE');
    assert.deepEqual(
      target.sealed?.disks.map(({ name, state, error }) => [name, state, error?.code]),
      [
        ['a', 'complete', undefined],
        ['b', 'broken', 'ERR_SNAPBAK_DRIVER_GONE'],
      ],
    );
    const told = await events;
    assert.deepEqual(kinds(told), [
      ['started', ''],
      ['disk', 'b'],
      ['disk', 'a'],
      ['broken', ''],
    ]);
    const broke = told.find((event) => event.event === 'disk');
    assert.ok(
      broke?.event === 'disk' && broke.state === 'broken' && /driver is gone/.test(broke.message ?? ''),
    );
  });

  it('has failed when all were copied, but one could not be made durable', async () => {
    const { a, b, target, start } = setup();
    const backup = await start();
    target.commitError = new SnapbakError('ERR_SNAPBAK_TARGET', 'the disk is full');
    for (const session of [a, b]) session.notify({ kind: 'complete' });
    await assert.rejects(backup.finished, {
      code: 'ERR_SNAPBAK_TARGET',
      message: /^2 of 2 disks broke: a: /,
    });
    assert.equal(backup.state, 'failed');
    assert.equal(target.sealed?.state, 'broken');
  });

  it('has failed when its manifest cannot be written', async () => {
    const { a, b, target, start } = setup();
    const backup = await start();
    const events = all(backup);
    target.sealError = new SnapbakError('ERR_SNAPBAK_TARGET', 'the disk is full');
    for (const session of [a, b]) session.notify({ kind: 'complete' });
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_TARGET' });
    assert.equal(backup.state, 'failed');
    assert.equal((await events).at(-1)?.event, 'error');
  });

  it('says so when one broke and not even that can be written', async () => {
    const { a, b, target, start } = setup();
    const backup = await start();
    target.sealError = new SnapbakError('ERR_SNAPBAK_TARGET', 'the disk is full');
    a.notify({ kind: 'broken', reason: 'hold-timeout', errno: 0 });
    b.notify({ kind: 'complete' });
    await assert.rejects(backup.finished, {
      code: 'ERR_SNAPBAK_HOLD_TIMEOUT',
      message: /and no manifest says so: the disk is full$/,
    });
    assert.equal(backup.state, 'broken');
  });

  it('with invalid blocks is complete with these', async () => {
    const { a, b, start } = setup();
    const backup = await start();
    const events = all(backup);
    b.notify({ kind: 'invalid', block: 3, errno: -errno.EIO });
    b.figures = { invalidBlocks: 1 };
    for (const session of [a, b]) session.notify({ kind: 'complete' });
    const { state, disks, invalidBlocks } = await backup.finished;
    assert.equal(state, 'complete-with-invalid-blocks');
    assert.deepEqual(invalidBlocks, [{ offset: 3 * 65_536, length: 65_536 }]);
    assert.deepEqual(
      disks?.map(({ state }) => state),
      ['complete', 'complete-with-invalid-blocks'],
    );
    const invalid = (await events).find(({ event }) => event === 'invalid-block');
    assert.ok(invalid?.event === 'invalid-block' && invalid.disk === 'b');
  });

  it('is aborted as a whole, and what was copied stays to be restored by name', async () => {
    const { a, b, target, start } = setup();
    const backup = await start();
    a.notify({ kind: 'complete' });
    await turn();
    await turn();
    await backup.abort('enough');
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED', message: /enough/ });
    assert.equal(backup.state, 'aborted');
    assert.ok(b.calls.includes('abort'));
    assert.deepEqual(
      target.sealed?.disks.map(({ state }) => state),
      ['complete', 'broken'],
    );
    assert.equal(target.sealed?.state, 'broken');
  });

  it('is aborted by its signal, and takes its listener away', async () => {
    const controller = new AbortController();
    const { a, b, start } = setup({ signal: controller.signal });
    const backup = await start();
    controller.abort('enough');
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED' });
    for (const session of [a, b]) assert.ok(session.calls.includes('close'));
  });

  it('is aborted by a signal that fires just before it listens', async () => {
    const { log, start } = setup();
    const started = () => log.some((call) => call.startsWith('session.start '));
    const backup = await start({ signal: justBefore(new AbortController(), started) });
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_ABORTED', message: /just before/ });
  });

  it('finishes if it is aborted while the last of them is being committed', async () => {
    const { log, a, b, target, start } = setup();
    const { shut, open } = gate();
    target.committing.set('b', shut);
    const backup = await start();
    for (const session of [a, b]) session.notify({ kind: 'complete' });
    while (!log.includes('b.commit')) await turn();
    const aborting = backup.abort('too late');
    open();
    await aborting;
    assert.equal((await backup.finished).state, 'complete');
    assert.equal(backup.state, 'finished');
    assert.equal(target.sealed?.state, 'complete');
    assert.equal(target.sealed?.error, undefined);
  });

  it('finishes if it is aborted when all is copied, and afterThaw has not ended', async () => {
    const { shut, open } = gate();
    const { log, a, b, target, start } = setup({ afterThaw: () => shut });
    const backup = await start();
    for (const session of [a, b]) session.notify({ kind: 'complete' });
    while (!(log.includes('a.close') && log.includes('b.close'))) await turn();
    const aborting = backup.abort('too late');
    open();
    await aborting;
    assert.equal((await backup.finished).state, 'complete');
    assert.equal(target.sealed?.state, 'complete');
  });

  it('is broken by what broke it, and not by an abort that came too late', async () => {
    const { log, a, b, target, start } = setup();
    const { shut, open } = gate();
    target.committing.set('b', shut);
    const backup = await start();
    a.notify({ kind: 'driver-gone' });
    b.notify({ kind: 'complete' });
    while (!log.includes('b.commit')) await turn();
    const aborting = backup.abort('too late');
    open();
    await aborting;
    await assert.rejects(backup.finished, { code: 'ERR_SNAPBAK_DRIVER_GONE' });
    assert.equal(backup.state, 'broken');
    assert.deepEqual(
      target.sealed?.disks.map(({ state }) => state),
      ['broken', 'complete'],
    );
  });

  it('that is aborted while its target is made leaves nothing of it', async () => {
    const controller = new AbortController();
    const { log, a, b, target, start } = setup({ signal: controller.signal });
    const aborted = { code: 'ERR_SNAPBAK_ABORTED', message: /enough/ };
    await assert.rejects(start({ target: abortedMeanwhile(target, controller) }), aborted);
    for (const session of [a, b]) assert.ok(session.calls.includes('close'));
    assert.equal(log.at(-1), 'target.close');
  });

  it('that is aborted while its directory is made leaves neither directory nor descriptor', async () => {
    const controller = new AbortController();
    const folder = cleanup.folder('group');
    const path = join(folder, 'backup');
    const { start } = setup({ signal: controller.signal });
    const target = abortedMeanwhile(directoryTarget(path), controller);
    await assert.rejects(start({ target }), { code: 'ERR_SNAPBAK_ABORTED' });
    assert.equal(existsSync(path), false);
    assert.deepEqual(
      openFiles(process.pid).filter((name) => name.startsWith(folder)),
      [],
    );
  });

  it('starts none if one cannot be started, says which, and leaves nothing open', async () => {
    const { log, a, b, start } = setup();
    b.failing.set('start', nativeError(errno.ETIMEDOUT, 'start'));
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_START_TIMEOUT', path: 'unix:/run/b.control' });
    for (const session of [a, b]) assert.ok(session.calls.includes('close'));
    assert.equal(log.at(-1), 'target.close');
  });

  it('says of a driver that cannot stop writes that it is too old', async () => {
    const { a, start } = setup();
    a.failing.set('start', nativeError(errno.ENOTTY, 'stop'));
    await assert.rejects(start(), { code: 'ERR_SNAPBAK_VERSION', path: '/dev/mapper/a' });
  });

  it('has one rate, shared evenly by those that still copy', async () => {
    const rates: [string, number | undefined][] = [];
    const { setRate } = RunningBackup.prototype;
    RunningBackup.prototype.setRate = function (rate) {
      rates.push([this.stats().totalBytes === 16 * MiB ? 'a' : 'b', rate]);
      setRate.call(this, rate);
    };
    try {
      const { a, target, start } = setup({ rate: 8 * MiB });
      const { shut, open } = gate();
      target.committing.set('a', shut); // its commit may take long
      await using backup = await start();
      assert.throws(() => backup.setRate(0), RangeError);
      backup.setRate(7);
      assert.deepEqual(rates.splice(0), [
        ['a', 3],
        ['b', 3],
      ]);
      a.notify({ kind: 'complete' });
      while (rates.length === 0) await turn();
      assert.deepEqual(rates.splice(0), [['b', 7]]);
      assert.equal(backup.stats().disks?.[0]?.state, 'finishing');
      open();
      backup.setRate(undefined);
      assert.deepEqual(rates, [['b', undefined]]);
    } finally {
      RunningBackup.prototype.setRate = setRate;
    }
  });

  it('pauses, goes on and is looked at as one; a disk is named where it matters', async () => {
    const { a, b, start } = setup();
    await using backup = await start();
    backup.pause();
    assert.equal(backup.state, 'paused');
    for (const session of [a, b]) assert.equal(session.calls.at(-1), 'pause');
    backup.resume();
    assert.equal(backup.state, 'running');
    backup.prioritize([{ offset: MiB, length: 65_536 }], 'b');
    assert.deepEqual(b.work.at(-1), { extents: [MiB, 65_536], priority: true });
    for (const call of [() => backup.prioritize([]), () => backup.prioritize([], 'c')]) {
      assert.throws(call, { name: 'RangeError', message: /disk must be one of a, b/ });
    }
    await assert.rejects(backup.view(), { name: 'RangeError', message: /disk must be one of a, b/ });
    const view = await backup.view('b');
    assert.equal(view.size, 8 * MiB);
    await view.close();
    const { totalBytes, disks } = backup.stats();
    assert.equal(totalBytes, 24 * MiB);
    assert.deepEqual(
      disks?.map(({ name, state, stats }) => [name, state, stats.totalBytes]),
      [
        ['a', 'running', 16 * MiB],
        ['b', 'running', 8 * MiB],
      ],
    );
  });

  it('goes on telling how far it is while one of them is being committed', async () => {
    const { a, target, start } = setup();
    const { shut, open } = gate();
    target.committing.set('a', shut);
    await using backup = await start();
    a.figures = { doneBlocks: 256 };
    a.notify({ kind: 'complete' });
    const tooLong = setTimeout(() => {
      open();
      void backup.abort('nothing is told');
    }, 1500);
    let told = 0;
    for await (const event of backup.events()) {
      if (event.event !== 'progress' || event.disks?.[0]?.state !== 'finishing') continue;
      assert.equal(event.disks[1]?.state, 'running');
      assert.equal(event.doneBytes, 16 * MiB);
      // one is what the disk itself tells at its end
      if (++told === 2) break;
    }
    clearTimeout(tooLong);
    assert.equal(told, 2);
    open();
  });

  it('is finishing when none of them copies any more, and tells its last figures', async () => {
    const { a, b, target, start } = setup();
    const { shut, open } = gate();
    target.committing.set('b', shut);
    const backup = await start();
    const events = all(backup);
    a.figures = { doneBlocks: 256 };
    b.figures = { doneBlocks: 128 };
    a.notify({ kind: 'complete' });
    assert.equal(backup.state, 'running');
    b.notify({ kind: 'complete' });
    assert.equal(backup.state, 'finishing');
    open();
    await backup.finished;
    const last = (await events).findLast(({ event }) => event === 'progress');
    assert.ok(last?.event === 'progress' && last.doneBytes === 24 * MiB && last.bytesPerSecond === 0);
  });

  it('tells its hooks of all, once', async () => {
    const told: unknown[] = [];
    const hook = ({ origin, origins }: { origin: string; origins: readonly string[] }) =>
      void told.push(origin, origins);
    await using _backup = await setup({ beforeFreeze: hook, afterThaw: hook }).start();
    const origins = ['/dev/mapper/a', 'unix:/run/b.control'];
    assert.deepEqual(told, [origins.join(' '), origins, origins.join(' '), origins]);
  });

  it('tells of a hook that failed, once', async () => {
    const { a, b, start } = setup({
      afterThaw: () => {
        throw new Error('no connection');
      },
    });
    const backup = await start();
    const events = all(backup);
    for (const session of [a, b]) session.notify({ kind: 'complete' });
    await backup.finished;
    assert.equal((await events).filter(({ event }) => event === 'hook').length, 1);
  });

  it('tells of each disk under its own origin in the diagnostics, and calls none finished before all are', async () => {
    const told: [string, string][] = [];
    const listen = (message: unknown) => {
      const { origin, event } = message as BackupMessage;
      if (event.event !== 'progress') told.push([origin, event.event]);
    };
    subscribe(BACKUP_CHANNEL, listen);
    try {
      const { a, b, start } = setup();
      const backup = await start();
      for (const session of [b, a]) session.notify({ kind: 'complete' });
      await backup.finished;
    } finally {
      unsubscribe(BACKUP_CHANNEL, listen);
    }
    const both = '/dev/mapper/a, unix:/run/b.control';
    assert.deepEqual(told, [
      [both, 'started'],
      ['unix:/run/b.control', 'disk'],
      ['/dev/mapper/a', 'disk'],
      [both, 'finished'],
    ]);
  });
});
