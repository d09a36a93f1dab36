// What a restore on demand leaves behind when it does not come to its export: nothing that was made for it, and
// nothing open; and what it is refused before it has changed anything.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { binding, type NativeBinding } from '../../../lib/binding.js';
import { SnapbakError } from '../../../lib/errors.js';
import { type RestoreOnDemandOptions, restoreOnDemand } from '../../../lib/restore/on-demand.js';
import { restore } from '../../../lib/restore/restore.js';
import { destinationIdentity, makeState, restoreJob } from '../../../lib/restore/restore-state.js';
import { makeBackup } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { nativeError } from '../../helpers/fake-session.js';
import { loopDevice } from '../../helpers/faulty-device.js';
import { stamped } from '../../helpers/images.js';
import { openFiles } from '../../helpers/processes.js';

const SIZE = 2 ** 20;

describe('a restore on demand that does not begin', () => {
  const cleanup = new Cleanup();
  const old = Buffer.alloc(SIZE, 9);
  let folder: string;
  let backup: string;
  let to: string;
  let socket: string;
  beforeEach(async () => {
    folder = cleanup.folder('on-demand');
    backup = join(folder, 'backup');
    to = join(folder, 'disk.img');
    socket = join(folder, 'nbd.sock');
    await makeBackup(backup, stamped(0, SIZE, 1));
  });
  afterEach(() => {
    const left = openFiles(process.pid).filter((name) => name.startsWith(folder));
    assert.deepEqual(left, []);
  });
  after(() => cleanup.run());

  type Parts = Parameters<typeof restoreOnDemand>[1];
  const begin = (parts: Parts = {}, options: Partial<RestoreOnDemandOptions> = {}) =>
    restoreOnDemand({ backup, to, socket, ...options }, parts);
  const missing = (): never => {
    throw new SnapbakError('ERR_SNAPBAK_MISSING', 'it is missing');
  };
  const plugin = () => '/plugin';
  /** One that ends before anybody can connect. */
  const failing = { nbdkit: () => '/bin/false', plugin };

  for (const [what, parts] of [
    ['nbdkit', { nbdkit: missing, plugin }],
    ['its plugin', { nbdkit: () => '/bin/false', plugin: missing }],
  ] as const) {
    it(`for want of ${what} has touched nothing`, async () => {
      await assert.rejects(begin(parts), { code: 'ERR_SNAPBAK_MISSING' });
      assert.deepEqual(readdirSync(folder), ['backup']);
      writeFileSync(to, old);
      await assert.rejects(begin(parts, { force: true }), { code: 'ERR_SNAPBAK_MISSING' });
      assert.ok(readFileSync(to).equals(old));
    });
  }

  it('because something else is at the place of its socket has touched nothing', async () => {
    writeFileSync(to, old);
    writeFileSync(socket, 'no socket');
    await assert.rejects(begin(failing, { force: true }), /no socket/);
    assert.ok(readFileSync(to).equals(old));
    assert.equal(existsSync(`${to}.restore-state`), false);
  });

  it('because nbdkit ends at once leaves neither a file nor a state file', async () => {
    await assert.rejects(begin(failing), { code: 'ERR_SNAPBAK_ORIGIN' });
    assert.deepEqual(readdirSync(folder), ['backup']);
  });

  it('over a file that was there leaves the file, and no state file', async () => {
    writeFileSync(to, old);
    await assert.rejects(begin(failing, { force: true }), { code: 'ERR_SNAPBAK_ORIGIN' });
    assert.deepEqual(readdirSync(folder).sort(), ['backup', 'disk.img']);
  });

  it('again leaves all that the interrupted one had', async () => {
    writeFileSync(to, old);
    const manifest = JSON.parse(readFileSync(join(backup, 'manifest.json'), 'utf8'));
    const state = `${to}.restore-state`;
    const { file } = await makeState(
      state,
      restoreJob(manifest, to, await destinationIdentity(to)),
      binding(),
    );
    await file.close();
    await assert.rejects(begin(failing, { resume: true }), { code: 'ERR_SNAPBAK_ORIGIN' });
    assert.deepEqual([existsSync(to), existsSync(state)], [true, true]);
  });

  it('closes and removes all of it, although a part cannot be closed', async () => {
    const native = (): NativeBinding => ({
      ...binding(),
      openLazyRestore: async () => ({
        serve: () => [],
        read: async () => Buffer.alloc(0),
        stats: () => ({ totalBlocks: 1, hereBlocks: 0, badBlocks: 0, demandBlocks: 0, writtenBlocks: 0 }),
        close: async () => {
          throw nativeError(5, 'target');
        },
      }),
    });
    await assert.rejects(begin({ ...failing, native }), { code: 'ERR_SNAPBAK_ORIGIN' });
    assert.deepEqual(readdirSync(folder), ['backup']);
  });

  it('to a file that is restored to, or served, has touched nothing', async () => {
    writeFileSync(to, old);
    const other = await open(to);
    binding().lockFile(other.fd);
    const refused = { code: 'ERR_SNAPBAK_RESTORE', message: /disk.img is in use/ };
    await assert.rejects(begin(failing, { force: true }), refused);
    await assert.rejects(restore({ backup, to, force: true }), refused);
    assert.ok(readFileSync(to).equals(old));
    assert.deepEqual(readdirSync(folder).sort(), ['backup', 'disk.img']);
    await other.close();
    rmSync(to);
    await restore({ backup, to });
  });

  it('to a device waits for who only looks at it, as udevd does, and not for who keeps it', async () => {
    to = await loopDevice(cleanup, SIZE);
    let other = await open(to, 'r+');
    binding().lockFile(other.fd);
    const refused = { code: 'ERR_SNAPBAK_RESTORE', message: /loop\d+ is in use: it is restored to/ };
    await assert.rejects(begin(failing, { force: true }), refused);
    await assert.rejects(restore({ backup, to }), refused);
    assert.ok(readFileSync(to).equals(Buffer.alloc(SIZE)));
    const looked = delay(100).then(() => other.close());
    await restore({ backup, to });
    await looked;
    other = await open(to, 'r+');
    binding().lockFile(other.fd);
    const lookedAgain = delay(100).then(() => other.close());
    await assert.rejects(begin(failing, { force: true }), { code: 'ERR_SNAPBAK_ORIGIN' });
    await lookedAgain;
  });
});
