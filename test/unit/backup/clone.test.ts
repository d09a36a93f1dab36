// What a backup does with its clone: when it is opened, shown, made durable and closed, what is told of it, and
// what becomes of its file. The addon's own clone over real files; the session and nbdkit are played.
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  linkSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { RunningClone } from '../../../lib/backup/clone.js';
import { checkClone } from '../../../lib/backup/clone-options.js';
import { type BackupOptions, startBackup } from '../../../lib/backup.js';
import { binding, type NativeClone, type NativeCloneOptions } from '../../../lib/binding.js';
import type { BackupEvent, FinishedEvent } from '../../../lib/events.js';
import type { Export } from '../../../lib/export/export.js';
import { directoryTarget } from '../../../lib/target/directory-target.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dev, fakeHost } from '../../helpers/fake-host.js';
import {
  FakeSession,
  FakeTarget,
  fakeBinding,
  fakeContainer,
  fakeInfo,
  fakeOrigin,
  MiB,
  nativeError,
} from '../../helpers/fake-session.js';
import { openFiles } from '../../helpers/processes.js';

const SIZE = 16 * MiB;
const BLOCK = 65_536;
const code = 'ERR_SNAPBAK_CLONE';

describe('the clone of a backup', () => {
  const cleanup = new Cleanup();
  let folder: string;
  let to: string;
  let log: string[];
  let session: FakeSession;
  beforeEach(() => {
    folder = cleanup.folder('clone');
    to = join(folder, 'clone.img');
    log = [];
    session = new FakeSession(log);
  });
  afterEach(() => {
    assert.deepEqual(
      openFiles(process.pid).filter((name) => name.startsWith(folder)),
      [],
    );
  });
  after(() => cleanup.run());

  const begin = (options: Partial<BackupOptions> = {}, target = new FakeTarget(log)) =>
    startBackup({
      origin: fakeOrigin(session),
      target,
      container: fakeContainer(log),
      clone: { to },
      ...options,
    });
  const eventsOf = async (backup: { events(): AsyncIterableIterator<BackupEvent> }) => {
    const seen: BackupEvent[] = [];
    for await (const event of backup.events()) seen.push(event);
    return seen;
  };

  it('is a new file of the size of the origin, for its owner only, and goes to the session', async () => {
    const backup = await begin();
    const { size, mode } = statSync(to);
    assert.deepEqual([size, mode & 0o777], [SIZE, 0o600]);
    assert.ok(session.prepared!.clone !== undefined);
    assert.deepEqual(backup.clone!.stats(), {
      ...{ totalBytes: SIZE, doneBytes: 0, badBlocks: 0, demands: 0, writtenBlocks: 0 },
    });
    assert.deepEqual(
      [backup.clone!.to, backup.clone!.uri, backup.clone!.exited, backup.clone!.lost],
      [to, undefined, undefined, undefined],
    );
    session.notify({ kind: 'complete' });
    const { clone, state } = await backup.finished;
    assert.deepEqual(
      [state, clone!.state, clone!.to, clone!.message],
      ['complete', 'complete', to, undefined],
    );
    assert.equal(existsSync(to), true);
    await backup.clone!.close();
    assert.equal(backup.clone!.stats().totalBytes, SIZE, 'figures as of the end');
  });

  it('of a backup that does not finish is removed, if it was made for that and nobody was shown it', async () => {
    const backup = await begin();
    await backup.abort();
    assert.equal(existsSync(to), false);
    writeFileSync(to, 'mine');
    const second = await begin({ clone: { to, force: true } });
    await second.abort();
    assert.equal(statSync(to).size, SIZE, 'it was there before');
    session.failing.set('start', nativeError(110, 'start'));
    const third = join(folder, 'third.img');
    await assert.rejects(begin({ clone: { to: third } }), { code: 'ERR_SNAPBAK_START_TIMEOUT' });
    assert.equal(existsSync(third), false);
  });

  it('that is closed before is not whole, and the backup goes on', async () => {
    const backup = await begin();
    const { clone } = backup;
    await Promise.all([clone!.close(), clone!.close(), clone![Symbol.asyncDispose]()]);
    assert.equal(backup.state, 'running');
    session.notify({ kind: 'complete' });
    const result = await backup.finished;
    assert.deepEqual([result.state, result.clone!.state], ['complete', 'closed']);
  });

  /** A clone of the addon that the test can lose. */
  const losable = () => {
    let options!: NativeCloneOptions;
    let error: Error | undefined;
    const stats = { totalBlocks: SIZE / BLOCK, hereBlocks: 3, badBlocks: 0, demands: 0, writtenBlocks: 2 };
    const native: NativeClone = {
      read: async () => Buffer.alloc(0),
      serve: () => [],
      stats: () => stats,
      finish: async () => {
        log.push('clone.finish');
        if (error !== undefined) throw error;
      },
      close: async () => void log.push('clone.close'),
    };
    const open = (parts: object = {}, socket?: string) =>
      RunningClone.open(
        { to, socket, force: false },
        { spec: 'disk.img', info: fakeInfo(SIZE), blockSize: BLOCK, inUse: [] },
        {
          native: () =>
            fakeBinding({
              lockFile() {},
              openClone: (given) => {
                options = given;
                return native;
              },
            }),
          ...parts,
        },
      );
    return {
      open,
      stats,
      lose(errno: number) {
        error = nativeError(5, 'clone');
        options.onLost(-errno);
      },
    };
  };

  it('that is lost says so in words with advice, once told and whenever asked', async () => {
    const { open, lose } = losable();
    const clone = await open();
    const told: Error[] = [];
    clone.whenLost((error) => told.push(error));
    assert.equal(clone.lost, undefined);
    lose(28);
    assert.deepEqual(told, [clone.lost]);
    assert.match(
      clone.lost!.message,
      /^the clone of disk\.img was given up: writing to .*clone\.img failed \(ENOSPC\); .*full/,
    );
    assert.deepEqual([clone.lost!.code, clone.lost!.errno, clone.lost!.path], [code, -28, to]);
    clone.whenLost((error) => told.push(error));
    assert.equal(told.length, 2);
    const result = await clone.finish();
    assert.deepEqual([result.state, result.message], ['lost', clone.lost!.message]);
    assert.deepEqual(log, ['clone.finish', 'clone.close']);
  });

  it('with blocks that did not come is not called complete', async () => {
    const { open, stats } = losable();
    stats.badBlocks = 1;
    const result = await (await open()).finish();
    assert.equal(result.state, 'complete-with-invalid-blocks');
    assert.deepEqual(result.stats, {
      ...{ totalBytes: SIZE, doneBytes: 3 * BLOCK, badBlocks: 1, demands: 0, writtenBlocks: 2 },
    });
  });

  const shown = (exited = new Promise<never>(() => {})): Export => ({
    ...{ socket: '/run/c.sock', uri: 'nbd+unix:///?socket=/run/c.sock', pid: 7, exited },
    stop: async () => void log.push('export.stop'),
  });
  const programs = { nbdkit: () => '/bin/false', plugin: () => '/plugin' };

  it('that is shown outlives the backup until it is closed, clients first', async () => {
    const clone = await losable().open(programs, join(folder, 'socket'));
    await clone.show(undefined, async ({ device, size, readOnly, socket, name }) => {
      assert.deepEqual([device, size, readOnly], [clone.native, SIZE, false]);
      assert.deepEqual([socket, name], [join(folder, 'socket'), `the clone ${to}`]);
      return shown();
    });
    assert.deepEqual([clone.uri, clone.pid], ['nbd+unix:///?socket=/run/c.sock', 7]);
    assert.equal((await clone.finish()).state, 'complete');
    await clone.release();
    assert.deepEqual(log, ['clone.finish']);
    await clone.close();
    assert.deepEqual(log.slice(1), ['export.stop', 'clone.close']);
  });

  it('that is shown is not ended by the signal of a backup that is over', async () => {
    const clone = await losable().open(programs, join(folder, 'socket'));
    const controller = new AbortController();
    let given: AbortSignal | undefined;
    await clone.show(controller.signal, async ({ signal }) => {
      given = signal;
      return shown();
    });
    await clone.finish();
    controller.abort();
    assert.equal(given!.aborted, false);
    await clone.close();
  });

  it('that is lost while it is served after the backup ends its export, for there are no events then', async () => {
    const { open, lose } = losable();
    const clone = await open(programs, join(folder, 'socket'));
    await clone.show(undefined, async () => shown());
    assert.equal((await clone.finish()).state, 'complete');
    lose(5);
    assert.equal(clone.lost!.errno, -5);
    await turn();
    assert.deepEqual(log, ['clone.finish', 'export.stop', 'clone.close']);
    await clone.close();
  });

  it('that was shown keeps its file when the backup does not finish, for what clients wrote', async () => {
    const clone = await losable().open(programs, join(folder, 'socket'));
    await clone.show(undefined, async () => shown());
    await clone.release();
    assert.equal(existsSync(to), true);
    assert.deepEqual(log, ['export.stop', 'clone.close']);
  });

  it('is told of in the last event as in the result', async () => {
    const backup = await begin();
    const events = eventsOf(backup);
    session.notify({ kind: 'complete' });
    const last = (await events).at(-1) as FinishedEvent;
    assert.equal(last.event, 'finished');
    assert.equal(last.clone!.state, 'complete');
    assert.deepEqual(last.clone, (await backup.finished).clone);
  });

  it('is refused where it would spoil something, before anything is changed', async () => {
    const info = { ...fakeInfo(SIZE), lowerInode: 77, lowerFsDev: dev(8, 1) };
    const target = join(folder, 'data.img');
    const used = openSync(target, 'w');
    const link = join(folder, 'link');
    symlinkSync(target, link);
    const second = join(folder, 'second-name');
    linkSync(target, second);
    const full = join(folder, 'full');
    writeFileSync(full, 'something');
    const host = fakeHost({
      mounts: { [folder]: { device: '8:1' }, '/on-origin': { device: '8:9' } },
      files: { [join(folder, 'disk.img')]: { inode: 77, fileSystem: '8:1' } },
    });
    const refused = (path: string, words: RegExp, force = false, origin = info) =>
      assert.rejects(
        RunningClone.open(
          { to: path, socket: undefined, force },
          { spec: 'disk.img', info: origin, blockSize: BLOCK, inUse: [used] },
          { native: binding, host },
        ),
        { code, message: words },
      );
    try {
      await refused(join(folder, 'disk.img'), /clone refused: .*disk\.img is the origin itself/, true);
      await refused(target, /is part of the backup itself/, true);
      await refused(second, /is part of the backup itself/, true);
      await refused(link, /is a symbolic link/, true);
      await refused(full, /exists and holds 9 B; with force it is overwritten/);
      await refused(folder, /is neither a file nor a block device/);
      await refused(join(folder, 'none', 'c.img'), /cannot make .*none/);
      await refused(
        '/on-origin/c.img',
        /could wait for the writes that the backup holds: it lies on the origin/,
        false,
        {
          ...info,
          dev: dev(8, 9),
        },
      );
    } finally {
      closeSync(used);
    }
    assert.equal(readFileSync(full, 'utf8'), 'something');
    assert.equal(statSync(target).size, 0);
  });

  it('has options that are checked by name and value', () => {
    assert.equal(checkClone(undefined), undefined);
    assert.deepEqual(checkClone({ to }), { to, socket: undefined, force: false });
    for (const [value, type, words] of [
      ['a', 'TypeError', /options\.clone/],
      [{ to: 7 }, 'TypeError', /options\.clone\.to/],
      [{ to: '' }, 'RangeError', /options\.clone\.to/],
      [{ to, other: 1 }, 'TypeError', /other/],
      [{ to, force: 1 }, 'TypeError', /options\.clone\.force/],
      [{ to, socket: 'x'.repeat(200) }, 'RangeError', /options\.clone\.socket/],
    ] as const) {
      assert.throws(() => checkClone(value), { name: type, message: words });
    }
  });

  it('is of one origin', async () => {
    const target = directoryTarget(join(folder, 'backup'));
    await assert.rejects(startBackup({ origins: [fakeOrigin(session)], target, clone: { to } }), {
      name: 'TypeError',
      message: /options\.clone/,
    });
    assert.deepEqual([log, existsSync(to)], [[], false]);
  });

  it('because something else is at the place of its socket has touched nothing', async () => {
    const socket = join(folder, 'socket');
    writeFileSync(socket, 'no socket');
    writeFileSync(to, 'mine');
    await assert.rejects(begin({ clone: { to, socket, force: true } }), /no socket/);
    assert.equal(readFileSync(to, 'utf8'), 'mine');
    assert.deepEqual(log.slice(-3), ['session.close', 'target.close', 'container.close']);
  });
});
