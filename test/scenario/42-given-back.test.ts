// What views, clones and restores hold is given back when they are closed, and the rest of them when nobody knows
// them any more; never while somebody uses them.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunningClone } from '../../lib/backup/clone.js';
import { binding, type NativeBinding } from '../../lib/binding.js';
import {
  type CustomTarget,
  deviceTarget,
  directoryTarget,
  type EmbeddedOrigin,
  openEmbedded,
  startBackup,
} from '../../lib/index.js';
import { restoreOnDemand } from '../../lib/restore/on-demand.js';
import { makeBackup } from '../helpers/backup-folder.js';
import { Cleanup } from '../helpers/cleanup.js';
import { loopDevice } from '../helpers/faulty-device.js';
import { collectGarbage } from '../helpers/garbage.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { openFiles, resourcesOf } from '../helpers/processes.js';
import { needPrograms, until } from '../helpers/programs.js';

const MiB = 2 ** 20;
const SIZE = 4 * MiB;

describe('what views, clones and restores hold', () => {
  let cleanup: Cleanup;
  let folder: string;
  let instant: Buffer;
  let origin: EmbeddedOrigin;
  let made = 0;
  beforeEach(async () => {
    cleanup = new Cleanup();
    folder = cleanup.folder('given-back');
    instant = randomBytes(SIZE);
    const path = join(folder, 'disk.img');
    await writeFile(path, instant);
    origin = await openEmbedded(path);
    cleanup.defer('close the origin', () => origin.close());
  });
  afterEach(() => cleanup.run());

  /** A place that nothing has used yet. */
  const fresh = (name: string) => join(folder, `${name}-${made++}`);
  const openIn = (directory: string) => openFiles(process.pid).filter((name) => name.startsWith(directory));

  /** A target in memory that is read by views, and has nothing to close. */
  function memoryTarget(): CustomTarget {
    const bytes = Buffer.alloc(SIZE);
    return {
      write: async (offset, data) => void bytes.set(data, offset),
      flush() {},
      read: async (offset, length) => bytes.subarray(offset, offset + length),
      close() {},
    };
  }

  /**
   * Does something twice, for what is there once, then three times more: what it gives must be collected each
   * time, and no thread be left.
   */
  async function leavesNothing(once: () => Promise<WeakRef<object>>): Promise<void> {
    await once();
    await once();
    await collectGarbage();
    const { threads } = resourcesOf(process.pid);
    const refs: WeakRef<object>[] = [];
    for (let i = 0; i < 3; i++) refs.push(await once());
    await until('all of it is collected', async () => {
      await collectGarbage();
      return refs.every((ref) => ref.deref() === undefined);
    });
    await until('its threads have ended', () => resourcesOf(process.pid).threads <= threads);
  }

  it('is the target no more once the view is closed and the backup has ended', async () => {
    const directory = fresh('backup');
    const backup = await startBackup({ origin, target: directoryTarget(directory) });
    const view = await backup.view();
    assert.ok((await view.read(0, SIZE)).equals(instant));
    await view.close();
    await backup.finished;
    assert.deepEqual(openIn(directory), []);
  });

  it('is the target of a finished backup until the view is closed', async () => {
    const directory = fresh('backup');
    const backup = await startBackup({ origin, target: directoryTarget(directory) });
    const view = await backup.view();
    await backup.finished;
    assert.ok((await view.read(0, SIZE)).equals(instant));
    assert.ok(openIn(directory).length > 0);
    await view.close();
    await until('the target is closed', () => openIn(directory).length === 0);
  });

  it('leaves the device of a backup that has finished to whoever wants it for himself', async () => {
    const device = await loopDevice(cleanup, SIZE);
    for (let i = 0; i < 3; i++) {
      const target = deviceTarget(device, { directory: fresh('backup'), force: true });
      const backup = await startBackup({ origin, target });
      await backup.finished;
      closeSync(openSync(device, constants.O_RDWR | constants.O_EXCL));
    }
  });

  it('stays while NBD clients are shown a view that the program has forgotten', async () => {
    needPrograms('nbdkit');
    const forgotten = async () => {
      const backup = await startBackup({ origin, target: memoryTarget() });
      const view = await backup.view();
      const shown = await view.export(fresh('nbd'));
      await backup.finished;
      return { shown, ref: new WeakRef(view) };
    };
    const { shown, ref } = await forgotten();
    const { socket } = shown;
    cleanup.defer('end the export', () => shown.stop());
    await collectGarbage();
    const client = await NbdClient.connect(socket);
    assert.ok((await client.read(0, SIZE)).equals(instant));
    await collectGarbage();
    assert.ok((await client.read(MiB, MiB)).equals(instant.subarray(MiB, 2 * MiB)));
    await client.close();
    await ref.deref()!.close();
    assert.equal((await shown.exited).asked, true);
  });

  it('does not grow with every export of a view', async () => {
    needPrograms('nbdkit');
    const backup = await startBackup({ origin, target: memoryTarget() });
    await using view = await backup.view();
    await backup.finished;
    const cycle = async () => {
      const { socket, stop } = await view.export(fresh('nbd'));
      const client = await NbdClient.connect(socket);
      assert.ok((await client.read(0, MiB)).equals(instant.subarray(0, MiB)));
      await client.close();
      await stop();
    };
    await cycle();
    const before = resourcesOf(process.pid);
    for (let i = 0; i < 12; i++) await cycle();
    const { threads, descriptors } = resourcesOf(process.pid);
    // one or two that have just ended may still be there, with 16 of each
    assert.ok(threads < before.threads + 40, `${threads} threads, ${before.threads} after the first`);
    assert.ok(
      descriptors < before.descriptors + 40,
      `${descriptors} descriptors, ${before.descriptors} after the first`,
    );
  });

  it('is nothing of a clone that was closed and forgotten', async () => {
    needPrograms('nbdkit');
    await leavesNothing(async () => {
      const clone = { to: fresh('clone'), socket: fresh('nbd') };
      const backup = await startBackup({ origin, target: directoryTarget(fresh('backup')), clone });
      await backup.finished;
      await backup.clone!.close();
      return new WeakRef((backup.clone as RunningClone).native);
    });
  });

  it('is nothing of a restore on demand that was stopped and forgotten', async () => {
    needPrograms('nbdkit');
    const backup = fresh('backup');
    await makeBackup(backup, instant);
    await leavesNothing(async () => {
      let ref: WeakRef<object> | undefined;
      const native = (): NativeBinding => ({
        ...binding(),
        async openLazyRestore(options) {
          const device = await binding().openLazyRestore(options);
          ref = new WeakRef(device);
          return device;
        },
      });
      const disk = await restoreOnDemand({ backup, to: fresh('disk'), socket: fresh('nbd') }, { native });
      await disk.restored;
      await disk.stop();
      return ref!;
    });
  });
});
