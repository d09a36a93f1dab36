import assert from 'node:assert/strict';
import { attachOrigin } from '../../../lib/attach/attach.js';
import { lowerUuid } from '../../../lib/attach/names.js';
import { DM, FakeDeviceMapper, oneLine, outcome } from '../../helpers/fake-device-mapper.js';
import { dev, fakeHost } from '../../helpers/fake-host.js';
import { fakeBinding, nativeError } from '../../helpers/fake-session.js';

const PATH = '/dev/mapper/data';

describe('attachOrigin', () => {
  let dm: FakeDeviceMapper;
  let synced: string[];
  let world: Parameters<typeof attachOrigin>[2];

  beforeEach(() => {
    dm = new FakeDeviceMapper();
    synced = [];
    world = {
      native: fakeBinding({
        deviceMapper: dm,
        syncFileSystem: async (path) => void synced.push(path),
      }),
      host: fakeHost({
        mounts: { '/srv': { device: `${DM}:0` }, '/': { device: '8:2' } },
        devices: { [`${DM}:0`]: { name: 'dm-0', size: 2 ** 30 }, '8:1': {}, '8:2': {} },
        files: {
          [PATH]: { blockDevice: `${DM}:0` },
          '/dev/mapper/data-snapbak': { blockDevice: `${DM}:1` },
          '/dev/sda1': { blockDevice: '8:1' },
          '/etc/passwd': {},
        },
      }),
    };
  });

  const attach = (path = PATH, options = {}) => attachOrigin(path, options, world);

  const refused = (message: RegExp, code = 'ERR_SNAPBAK_ATTACH', path = PATH, options = {}) =>
    assert.rejects(attach(path, options), (error: Error & { code: string; path: string }) => {
      assert.match(error.message, message);
      assert.equal(error.code, code);
      assert.equal(error.path, path);
      return true;
    });

  it('puts the target under the device, after what is dirty there was written', async () => {
    dm.add('data');
    assert.deepEqual(await attach(), {
      device: PATH,
      lower: '/dev/mapper/data-snapbak',
      size: 2 ** 30,
      stoppedMs: 1.5,
    });
    assert.deepEqual(synced, ['/srv']);
    assert.deepEqual(dm.calls, ['attach data over data-snapbak']);
  });

  it('keeps a private layer of LVM private', async () => {
    dm.add('data', { uuid: `LVM-${'x'.repeat(64)}-real` });
    await attach();
    assert.deepEqual(dm.calls, ['attach data over data-snapbak hidden']);
  });

  it('takes several lines of targets that only map', async () => {
    dm.add('data', {
      live: { lines: [...oneLine('linear').lines, ...oneLine('striped').lines], below: [dev(8, 1)] },
    });
    await attach();
    assert.equal(dm.calls.length, 1);
  });

  it('refuses a table in which one line remembers something', async () => {
    dm.add('data', {
      live: { lines: [...oneLine('linear').lines, ...oneLine('cache').lines], below: [dev(8, 1)] },
    });
    await refused(/the target "cache"/);
    assert.deepEqual(dm.calls, []);
  });

  it('says of what is attached already that it is', async () => {
    dm.add('data');
    await attach();
    await refused(/attached already/);
    await refused(/lower device of \/dev\/mapper\/data, which/, undefined, '/dev/mapper/data-snapbak');
  });

  it('tells the ways for a plain device', async () => {
    await refused(/no device-mapper device.*attach --create NAME \/dev\/sda1.*serve/, undefined, '/dev/sda1');
  });

  it('says of what is no device what it is', async () => {
    await refused(/there is no such device/, 'ERR_SNAPBAK_ORIGIN', '/dev/nothing');
    await refused(/no block device.*snapbak serve/, 'ERR_SNAPBAK_ORIGIN', '/etc/passwd');
    await assert.rejects(attach('data'), TypeError);
    await assert.rejects(attachOrigin(1 as never, {}, world), TypeError);
    await assert.rejects(attach(PATH, { force: true }), TypeError);
  });

  it('needs the kernel module, and root, and libdevmapper', async () => {
    dm.add('data');
    dm.targets.clear();
    await refused(/module dm-snapbak is not loaded.*module install/, 'ERR_SNAPBAK_MISSING');
    dm.broken = nativeError(13, 'device-mapper');
    await refused(/root only/, 'ERR_SNAPBAK_PERMISSION');
    dm.broken = nativeError(79, 'libdevmapper');
    await refused(/libdevmapper1\.02\.1/, 'ERR_SNAPBAK_MISSING');
    dm.broken = nativeError(19, 'libdevmapper');
    await refused(/no device-mapper.*modprobe dm-mod/, 'ERR_SNAPBAK_MISSING');
    dm.broken = nativeError(5, 'device-mapper');
    await refused(/device-mapper: EIO/);
  });

  it('leaves alone what somebody else is changing', async () => {
    const device = dm.add('data', { inactive: oneLine('linear', dev(8, 1)) });
    await refused(/another program is changing it.*dmsetup clear data/);
    Object.assign(device, { inactive: null, suspended: true });
    await refused(/suspended/);
    Object.assign(device, { suspended: false, live: null });
    await refused(/no table/);
    assert.deepEqual(dm.calls, []);
  });

  it('clears up after an attachment that was killed, and attaches', async () => {
    const origin = dm.add('data');
    const lower = dm.add('data-snapbak', { uuid: lowerUuid(origin) });
    origin.inactive = oneLine('snapbak', lower.device);
    await attach();
    assert.deepEqual(dm.calls, ['clear data', 'remove data-snapbak', 'attach data over data-snapbak']);
  });

  it('removes no device of another, and none in use', async () => {
    const origin = dm.add('data');
    const stranger = dm.add('data-snapbak');
    await refused(/a device data-snapbak, which Snapbak did not make/);
    stranger.uuid = lowerUuid(origin);
    stranger.opened = 1;
    await refused(/left the device data-snapbak behind, and somebody uses it/);
    assert.deepEqual(dm.calls, []);
  });

  it('says of a step that failed what it was, what it means, and how the device is', async () => {
    dm.add('data');
    const cases: [Parameters<typeof outcome>[0], RegExp][] = [
      [{ errno: -126, step: 'lower-load' }, /ENOKEY.*refresh --disable-keyring data.*nothing was changed/],
      [{ errno: -22, step: 'lower-load' }, /lower device failed: EINVAL.*kernel log/],
      [{ errno: -22, step: 'load' }, /loading its new table failed: EINVAL.*DAX/],
      [{ errno: -16, step: 'swap' }, /exchanging its table failed: EBUSY.*frozen/],
      [{ errno: -11, step: 'swap' }, /at the same time.*nothing was changed/],
      [
        { errno: -22, step: 'swap', undoErrno: -16, undoStep: 'lower-remove' },
        /could not be undone, removing its lower device: EBUSY.*snapbak detach \/dev\/mapper\/data/,
      ],
      [{ errno: -22, step: 'swap', suspended: true, undoErrno: -12 }, /IS SUSPENDED.*dmsetup resume data/],
    ];
    for (const [parts, message] of cases) {
      dm.failing = outcome(parts);
      await refused(message);
    }
  });

  describe('with create', () => {
    const create = { create: 'new' };

    it('makes a device over one that nobody uses', async () => {
      assert.deepEqual(await attach('/dev/sda1', create), {
        device: '/dev/mapper/new',
        size: 2 ** 30,
        stoppedMs: 0,
      });
      assert.deepEqual(dm.calls, [`create new over ${dev(8, 1)}`]);
      assert.equal(dm.devices[0]!.uuid, 'SNAPBAK-new');
    });

    it('takes a device-mapper device, too, but no lower one', async () => {
      dm.add('data', { live: oneLine('raid', dev(8, 1)) });
      await attach(PATH, create);
      dm.devices.splice(0, 2);
      const origin = dm.add('data', { device: dev(DM, 0) });
      dm.add('data-snapbak', { uuid: lowerUuid(origin), device: dev(DM, 1) });
      await refused(/lower device of \/dev\/mapper\/data/, undefined, '/dev/mapper/data-snapbak', create);
    });

    it('refuses a name that is taken, or is none', async () => {
      dm.add('new');
      await refused(/a device \/dev\/mapper\/new already/, undefined, '/dev/sda1', create);
      for (const name of ['', 'a/b', 'n'.repeat(200)]) {
        await assert.rejects(attach('/dev/sda1', { create: name }), TypeError);
      }
    });

    it('says what a device is in use for', async () => {
      dm.failing = outcome({ errno: -16, step: 'open' });
      await refused(/in use: unmount it/, undefined, '/dev/sda1', create);
    });
  });
});
