import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import type { RunningBackup } from '../../../lib/backup/running.js';
import { BackupView } from '../../../lib/backup/view.js';
import { startBackup } from '../../../lib/backup.js';
import { BlockList } from '../../../lib/blocks/block-list.js';
import type { CustomTarget } from '../../../lib/target/custom-target.js';
import {
  FakeExportable,
  FakeSession,
  FakeTarget,
  fakeContainer,
  fakeOrigin,
  MiB,
  nativeError,
} from '../../helpers/fake-session.js';

const errno = { ...constants.errno, ESHUTDOWN: 108, EREMOTEIO: 121 };
const SIZE = 16 * MiB;

async function setup(ownTarget?: CustomTarget) {
  const log: string[] = [];
  const session = new FakeSession(log);
  const target = new FakeTarget(log);
  const backup = await startBackup({
    origin: fakeOrigin(session),
    target: ownTarget ?? target,
    container: fakeContainer(log),
  });
  log.length = 0;
  return { log, session, target, backup };
}

describe('Backup.view', () => {
  it('reads ranges of the device, and knows its size and its block list', async () => {
    const { log, backup } = await setup();
    await using _backup = backup;
    const view = await backup.view();
    assert.equal(view.size, SIZE);
    assert.deepEqual([...view.blocks], [{ offset: 0, length: SIZE }]);
    assert.deepEqual([...(await view.read(254, 3))], [254, 255, 0]);
    assert.equal((await view.read(SIZE, 0)).length, 0);
    await view.close();
    assert.deepEqual(log, ['session.openView', 'view.read 254 3', `view.read ${SIZE} 0`, 'view.close']);
  });

  it('refuses what is no range of the device, with the argument and the value', async () => {
    const { log, backup } = await setup();
    await using _backup = backup;
    await using view = await backup.view();
    await assert.rejects(view.read('0' as never, 1), { name: 'TypeError', message: /offset .*"0"/ });
    await assert.rejects(view.read(0, -1), { name: 'RangeError', message: /length .*-1/ });
    await assert.rejects(view.read(1, SIZE), { name: 'RangeError', message: /16777216, got 16777217/ });
    await assert.rejects(view.read(0, 2 ** 30 + 1), { name: 'RangeError', message: /length .*at most/ });
    assert.deepEqual(log, ['session.openView']);
  });

  it('is closed once, by close() or its scope, and reads nothing afterwards', async () => {
    const { log, backup } = await setup();
    await using _backup = backup;
    const view = await backup.view();
    await Promise.all([view.close(), view.close(), view[Symbol.asyncDispose]()]);
    await assert.rejects(view.read(0, 1), { code: 'ERR_SNAPBAK_VIEW', message: /closed/ });
    assert.deepEqual(log, ['session.openView', 'view.close']);
  });

  it('is shown to NBD clients until it is closed, and they are cut off first', async () => {
    const log: string[] = [];
    const native = new FakeExportable(log);
    const shown = {
      uri: 'nbd+unix:///?socket=/run/a.sock',
      pid: 7,
      exited: new Promise<never>(() => {}),
      stop: async () => void log.push('export.stop'),
    };
    const view = new BackupView({
      ...{ native, spec: 'unix:/run/a', size: SIZE, blocks: () => BlockList.all(SIZE) },
      start: async ({ device, size, readOnly, socket, name }) => {
        assert.equal(device, native);
        assert.deepEqual({ size, readOnly }, { size: SIZE, readOnly: true });
        log.push(`export ${socket} ${name}`);
        return { socket, ...shown };
      },
    });
    await assert.rejects(view.export(''), { name: 'RangeError', message: /^socket/ });
    await assert.rejects(view.export(`/${'x'.repeat(200)}`), { name: 'RangeError', message: /^socket/ });
    assert.equal((await view.export('/run/a.sock')).uri, shown.uri);
    await view.close();
    await assert.rejects(view.export('/run/a.sock'), { code: 'ERR_SNAPBAK_VIEW' });
    assert.deepEqual(log, [
      'export /run/a.sock the start instant of unix:/run/a',
      'export.stop',
      'view.close',
    ]);
  });

  it('is refused with a target that cannot be read, and after the end', async () => {
    const { session, backup } = await setup();
    session.failing.set('openView', nativeError(errno.EOPNOTSUPP, 'view'));
    await assert.rejects(backup.view(), {
      code: 'ERR_SNAPBAK_VIEW',
      message: /method read\(offset, length\)/,
    });
    session.failing.set('openView', nativeError(errno.EBADF, 'closed'));
    await assert.rejects(backup.view(), { code: 'ERR_SNAPBAK_VIEW', message: /has ended/ });
    session.failing.set('openView', nativeError(errno.ENOMEM, 'view'));
    await assert.rejects(backup.view(), { code: 'ERR_SNAPBAK_IO', errno: -errno.ENOMEM });
    await backup.abort();
  });

  it('says which bytes could not be read, and that the backup broke', async () => {
    const { session, backup } = await setup();
    const view = await backup.view();
    session.view.error = nativeError(errno.EIO, 'read');
    await assert.rejects(view.read(4096, 10), {
      code: 'ERR_SNAPBAK_IO',
      errno: -errno.EIO,
      extent: { offset: 4096, length: 10 },
    });
    session.view.error = nativeError(errno.EREMOTEIO, 'read');
    await assert.rejects(view.read(0, 1), { code: 'ERR_SNAPBAK_IO', message: /target's read\(\)/ });
    session.view.error = nativeError(errno.ESHUTDOWN, 'read');
    await assert.rejects(view.read(0, 1), { code: 'ERR_SNAPBAK_VIEW', message: /broke or was aborted/ });
    await backup.abort();
    await view.close();
  });

  it('outlives the backup: the target is closed after the last view, the rest at once', async () => {
    const { log, session, backup } = await setup();
    const views = [await backup.view(), await backup.view()];
    log.length = 0;
    session.notify({ kind: 'complete' });
    await backup.finished;
    assert.deepEqual(log, ['session.finish', 'target.commit', 'session.close', 'container.close']);
    await views[0]!.close();
    await turn();
    assert.ok(!log.includes('target.close'));
    assert.equal((await views[1]!.read(0, 1)).length, 1);
    await views[1]!.close();
    await turn();
    assert.equal(log.at(-1), 'target.close');
  });

  it('does not keep the target of a backup that was aborted, nor one that could not be opened', async () => {
    const aborted = await setup();
    const view = await aborted.backup.view();
    await aborted.backup.abort();
    assert.ok(aborted.log.includes('target.close'));
    await view.close();

    const finished = await setup();
    finished.session.failing.set('openView', nativeError(errno.EOPNOTSUPP, 'view'));
    await assert.rejects(finished.backup.view());
    finished.session.notify({ kind: 'complete' });
    await finished.backup.finished;
    assert.ok(finished.log.includes('target.close'));
  });

  it('reads a target written in JavaScript by its read(), of which an error ends no backup', async () => {
    let reads = 0;
    class Own {
      write() {}
      flush() {}
      close() {}
      read() {
        assert.ok(this instanceof Own);
        reads++;
        if (reads === 2) throw new Error('not now');
        return new Uint8Array(1);
      }
    }
    const { session, backup } = await setup(new Own());
    const { target } = session.prepared!;
    assert.ok('write' in target);
    await target.read!(0, 1);
    assert.throws(() => target.read!(0, 1), /not now/);
    session.notify({ kind: 'target-error', errno: -errno.EREMOTEIO });
    await assert.rejects(backup.finished, (error: Error) => !error.message.includes('not now'));
  });
});

describe('unlisting', () => {
  it('takes blocks out of the list that manifest and views tell', async () => {
    const { session, target, backup } = await setup();
    const running = backup as unknown as RunningBackup;
    await using view = await backup.view();
    const gone = BlockList.extents([{ offset: MiB, length: 2 * MiB }]);
    assert.deepEqual([...running.unlist(gone)], [...gone]);
    const left = [
      { offset: 0, length: MiB },
      { offset: 3 * MiB, length: 13 * MiB },
    ];
    assert.deepEqual([...view.blocks], left);
    session.notify({ kind: 'complete' });
    await backup.finished;
    assert.deepEqual(
      target.committed!.blocks,
      left.map(({ offset, length }) => [offset, length]),
    );
  });
});
