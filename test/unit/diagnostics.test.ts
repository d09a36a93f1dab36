import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { startBackup } from '../../lib/backup.js';
import {
  BACKUP_CHANNEL,
  type BackupMessage,
  LOG_CHANNEL,
  type LogRecord,
  publish,
} from '../../lib/diagnostics.js';
import type { BackupEvent } from '../../lib/events.js';
import { FakeSession, FakeTarget, fakeContainer, fakeOrigin } from '../helpers/fake-session.js';

const broken: BackupEvent = {
  event: 'broken',
  id: 'an-id',
  code: 'ERR_SNAPBAK_TARGET',
  message: 'the target is full',
  errno: -28,
};

describe('the diagnostics channels', () => {
  const undo: (() => void)[] = [];
  afterEach(() => {
    for (const step of undo.splice(0)) step();
  });

  function listen<T>(name: string): T[] {
    const heard: T[] = [];
    const listener = (message: unknown) => heard.push(message as T);
    subscribe(name, listener);
    undo.push(() => unsubscribe(name, listener));
    return heard;
  }

  it('tell the events of every backup in the process, with its id and origin', async () => {
    const heard = listen<BackupMessage>(BACKUP_CHANNEL);
    const backups = [];
    for (let i = 0; i < 2; i++) {
      const session = new FakeSession();
      const options = { origin: fakeOrigin(session), target: new FakeTarget(), container: fakeContainer([]) };
      const backup = await startBackup(options);
      session.notify({ kind: 'complete' });
      await backup.finished;
      backups.push(backup.id);
    }
    const ends = heard.filter(({ event }) => event.event === 'started' || event.event === 'finished');
    assert.deepEqual(
      ends.map(({ id, origin, event }) => [id, origin, event.event]),
      backups.flatMap((id) => [
        [id, 'unix:/run/fake.control', 'started'],
        [id, 'unix:/run/fake.control', 'finished'],
      ]),
    );
  });

  it('make log records with level, code and errno', () => {
    const heard = listen<LogRecord>(LOG_CHANNEL);
    publish('an-id', '/dev/dm-0', broken);
    const [{ time, ...record } = assert.fail('nothing was logged')] = heard;
    assert.ok(Math.abs(Date.now() - time) < 60_000);
    assert.deepEqual(record, {
      level: 'error',
      message: 'the target is full',
      id: 'an-id',
      origin: '/dev/dm-0',
      event: 'broken',
      code: 'ERR_SNAPBAK_TARGET',
      errno: -28,
    });
  });

  it('warn where data is missing or writers wait, and do not log figures', () => {
    const heard = listen<LogRecord>(LOG_CHANNEL);
    publish('i', 'o', { event: 'hold', writes: 3, now: 2, longestMs: 5 });
    publish('i', 'o', { event: 'hold', writes: 0, now: 0, longestMs: 5 });
    publish('i', 'o', { event: 'invalid-block', block: 1, extent: { offset: 4096, length: 1 }, errno: -5 });
    publish('i', 'o', { event: 'hook', hook: 'after-thaw', code: 'ERR_SNAPBAK_HOOK', message: 'no lock' });
    publish('i', 'o', { event: 'throttle', writes: 4, ms: 12.4, fill: 0.8 });
    const spill = { event: 'spill', blocks: 1, totalBlocks: 1, usedBytes: 1, capacityBytes: 2 } as const;
    publish('i', 'o', { ...spill, lost: false });
    publish('i', 'o', { ...spill, lost: true, errno: -5 });
    assert.deepEqual(
      heard.map(({ level, message }) => `${level}: ${message}`),
      [
        'warn: 3 writes were held because the container is full, 2 are now',
        'warn: the block at 4096 cannot be read (EIO): it is not in the backup',
        'warn: no lock',
        'debug: 4 writes were delayed, 12 ms in all',
        'warn: the second tier of the container failed (EIO) and was given up',
      ],
    );
  });

  it('make nothing where nobody subscribes', () => {
    const untouchable = new Proxy({} as BackupEvent, {
      get: (_, name) => assert.fail(`somebody looked at ${String(name)}`),
    });
    publish('an-id', '/dev/dm-0', untouchable);
  });
});
