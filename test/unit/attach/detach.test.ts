import assert from 'node:assert/strict';
import { detachOrigin } from '../../../lib/attach/detach.js';
import { lowerUuid } from '../../../lib/attach/names.js';
import type { NativeStatus } from '../../../lib/binding.js';
import { DM, FakeDeviceMapper, oneLine, outcome } from '../../helpers/fake-device-mapper.js';
import { dev, fakeHost } from '../../helpers/fake-host.js';
import { FakeSession, fakeBinding, nativeError } from '../../helpers/fake-session.js';

const PATH = '/dev/mapper/data';

class StateSession extends FakeSession {
  state: NativeStatus['state'] = 'new';
  override async status(): Promise<NativeStatus> {
    return { ...(await super.status()), state: this.state };
  }
}

describe('detachOrigin', () => {
  let dm: FakeDeviceMapper;
  let session: StateSession;
  let world: Parameters<typeof detachOrigin>[2];

  beforeEach(() => {
    dm = new FakeDeviceMapper();
    session = new StateSession();
    world = {
      native: fakeBinding({ deviceMapper: dm, createSession: () => session }),
      host: fakeHost({
        files: {
          [PATH]: { blockDevice: `${DM}:0` },
          '/dev/mapper/data-snapbak': { blockDevice: `${DM}:1` },
          '/dev/sda1': { blockDevice: '8:1' },
        },
      }),
    };
  });

  const detach = (path = PATH, options = {}) => detachOrigin(path, options, world);

  const refused = (message: RegExp, code = 'ERR_SNAPBAK_ATTACH', path = PATH) =>
    assert.rejects(detach(path), (error: Error & { code: string }) => {
      assert.match(error.message, message);
      assert.equal(error.code, code);
      return true;
    });

  /** `data` (253:0) on `data-snapbak` (253:1). */
  function attached() {
    const origin = dm.add('data', { opened: 1 });
    const lower = dm.add('data-snapbak', { uuid: lowerUuid(origin) });
    origin.live = oneLine('snapbak', lower.device);
    return { origin, lower };
  }

  it('gives the device its table back', async () => {
    attached();
    assert.deepEqual(await detach(), {
      device: PATH,
      outcome: 'restored',
      stoppedMs: 2.5,
      lowerInUse: false,
    });
    assert.deepEqual(
      dm.devices.map(({ name, live }) => [name, live!.lines[0]!.type]),
      [['data', 'linear']],
    );
    assert.ok(session.calls.includes('close'));
  });

  it('takes the lower device for a name of it', async () => {
    attached();
    const { outcome: how, device } = await detach('/dev/mapper/data-snapbak');
    assert.deepEqual([how, device], ['restored', PATH]);
  });

  it('finds the lower device of a device that was renamed', async () => {
    const { origin } = attached();
    origin.name = 'renamed';
    assert.equal((await detach()).outcome, 'restored');
    assert.deepEqual(dm.calls, ['detach renamed from data-snapbak']);
  });

  it('says when somebody has the lower device open', async () => {
    attached().lower.opened = 1;
    assert.equal((await detach()).lowerInUse, true);
  });

  it('refuses while a session runs, unless it is told to break it', async () => {
    attached();
    for (const state of ['ready', 'armed'] as const) {
      session.state = state;
      await refused(/a backup of it is running.*--force/, 'ERR_SNAPBAK_BUSY');
    }
    assert.deepEqual(dm.calls, []);
    assert.equal((await detach(PATH, { force: true })).outcome, 'restored');
    await assert.rejects(detach(PATH, { force: 1 }), TypeError);
  });

  it('goes on when the session is over', async () => {
    attached();
    session.state = 'finished';
    assert.equal((await detach()).outcome, 'restored');
  });

  it('goes on when the driver knows nothing of the device', async () => {
    attached();
    session.failing.set('status', nativeError(19, 'status'));
    assert.equal((await detach()).outcome, 'restored');
  });

  it('does not go on when it cannot know whether a session runs', async () => {
    attached();
    session.failing.set('status', nativeError(93, 'module'));
    await refused(/ask for a session/, 'ERR_SNAPBAK_VERSION');
    assert.deepEqual(dm.calls, []);
  });

  it('removes a device that it made, or makes it linear when it is in use', async () => {
    const made = dm.add('data', { uuid: 'SNAPBAK-data', live: oneLine('snapbak', dev(8, 1)), opened: 1 });
    assert.equal((await detach()).outcome, 'linear');
    assert.equal(made.live!.lines[0]!.type, 'linear');
    Object.assign(made, { live: oneLine('snapbak', dev(8, 1)), opened: 0 });
    assert.equal((await detach()).outcome, 'removed');
    assert.deepEqual(dm.calls, ['make data linear', 'remove data']);
    assert.deepEqual(dm.devices, []);
  });

  it('removes no device that another made with the target', async () => {
    dm.add('data', { live: oneLine('snapbak', dev(8, 1)) });
    assert.equal((await detach()).outcome, 'linear');
  });

  it('is linear after all when somebody opens it just then', async () => {
    dm.add('data', { uuid: 'SNAPBAK-data', live: oneLine('snapbak', dev(8, 1)) });
    dm.remove = async () => {
      throw nativeError(16, 'device-mapper');
    };
    assert.equal((await detach()).outcome, 'linear');
  });

  it('clears up after LVM gave the volume a new table', async () => {
    const { origin } = attached();
    origin.live = oneLine('linear', dev(8, 1));
    assert.equal((await detach()).outcome, 'cleaned');
    assert.deepEqual(dm.calls, ['remove data-snapbak']);
    await refused(/is not attached$/);
  });

  it('clears up after an attachment that was killed between loading and swapping', async () => {
    const { origin, lower } = attached();
    origin.live = oneLine('linear', dev(8, 1));
    origin.inactive = oneLine('snapbak', lower.device);
    assert.equal((await detach()).outcome, 'cleaned');
    assert.deepEqual(dm.calls, ['clear data', 'remove data-snapbak']);
  });

  it("leaves another program's inactive table alone", async () => {
    dm.add('data', { inactive: oneLine('linear', dev(8, 1)) });
    await refused(/is not attached$/);
    assert.deepEqual(dm.calls, []);
  });

  it('clears up below a device that is gone, by any of its names', async () => {
    const volume = { name: 'vg-data', uuid: `LVM-${'x'.repeat(64)}` };
    for (const path of ['/dev/mapper/vg-data', '/dev/vg/data']) {
      dm.add('vg-data-snapbak', { uuid: lowerUuid(volume) });
      assert.deepEqual(await detach(path), {
        device: '/dev/mapper/vg-data',
        outcome: 'cleaned',
        stoppedMs: 0,
        lowerInUse: false,
      });
    }
    dm.add('x', { device: dev(DM, 9) });
    dm.add('data-snapbak', { uuid: lowerUuid(volume), device: dev(DM, 1), opened: 1 });
    await refused(/somebody uses it/, undefined, '/dev/mapper/data-snapbak');
  });

  it('says of what is not attached that it is not', async () => {
    dm.add('data');
    await refused(/is not attached$/);
    await refused(/no device-mapper device/, 'ERR_SNAPBAK_ORIGIN', '/dev/sda1');
    await refused(/no such device/, 'ERR_SNAPBAK_ORIGIN', '/dev/mapper/gone');
    await refused(/no such device/, 'ERR_SNAPBAK_ORIGIN', '/nowhere');
  });

  it('says of a step that failed what it means', async () => {
    attached();
    dm.failing = outcome({ errno: -126, step: 'load' });
    await refused(/ENOKEY.*keyctl padd/);
    dm.failing = outcome({ errno: -16, step: 'lower-remove' });
    await refused(/removing its lower device failed: EBUSY.*it is detached all the same/);
  });
});
