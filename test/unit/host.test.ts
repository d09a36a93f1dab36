import assert from 'node:assert/strict';
import { mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deviceId, deviceNumber, hostAt, parseMountinfo, thisHost } from '../../lib/host.js';
import { Cleanup } from '../helpers/cleanup.js';
import { loopDevice } from '../helpers/faulty-device.js';
import { must } from '../helpers/programs.js';

describe('a device number', () => {
  it('is taken apart as glibc puts it together', () => {
    assert.equal(deviceNumber(0x801), '8:1');
    assert.equal(deviceNumber(0xfe00), '254:0');
    assert.equal(deviceNumber(65_024n), '254:0');
    // major 259, minor 70,000
    assert.equal(deviceNumber((70_000n & 0xffn) | ((70_000n & ~0xffn) << 12n) | (259n << 8n)), '259:70000');
  });

  it('is put together again', () => {
    for (const number of ['8:1', '254:0', '259:70000', '4096:1']) {
      assert.equal(deviceNumber(deviceId(number)), number);
    }
    assert.equal(deviceId('8:1'), 0x801);
  });
});

describe('mountinfo', () => {
  it('is read with optional fields, and escapes in names', () => {
    const text = [
      '36 35 98:0 /root /mnt/with\\040space rw,noatime master:1 shared:2 - ext3 /dev/sda1 rw,errors=continue',
      '40 35 0:42 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u\\054x',
      'rubbish',
      '',
    ].join('\n');
    assert.deepEqual(parseMountinfo(text), [
      {
        device: '98:0',
        mountPoint: '/mnt/with space',
        fsType: 'ext3',
        source: '/dev/sda1',
        options: ['rw', 'errors=continue'],
      },
      {
        device: '0:42',
        mountPoint: '/merged',
        fsType: 'overlay',
        source: 'overlay',
        options: ['rw', 'lowerdir=/l', 'upperdir=/u', 'x'],
      },
    ]);
  });
});

describe('a machine', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('finds the mount of a path that may not exist, by the deepest mount point, the later of two', async () => {
    const mountinfo = join(cleanup.folder('host'), 'mountinfo');
    const lines = ['/ 1:1 ext4', '/nowhere/a 1:2 xfs', '/nowhere/a 1:3 fuse', '/nowhere/ab 1:4 ext4'].map(
      (line) => {
        const [point, device, type] = line.split(' ');
        return `1 1 ${device} / ${point} rw - ${type} source rw`;
      },
    );
    writeFileSync(mountinfo, lines.join('\n'));
    const host = hostAt(mountinfo, '/sys/dev/block');
    assert.equal((await host.mountOf('/nowhere/a/b/c'))?.device, '1:3');
    assert.equal((await host.mountOf('/nowhere/abc'))?.device, '1:1');
    assert.equal((await host.mountOf('/nowhere/ab'))?.device, '1:4');
  });

  it('knows a partition by its disk, and LVM or RAID by their parts', async () => {
    const sys = cleanup.folder('host');
    const put = (path: string, text: string) => {
      mkdirSync(join(sys, path, '..'), { recursive: true });
      writeFileSync(join(sys, path), `${text}\n`);
    };
    put('devices/sda/dev', '8:0');
    put('devices/sda/size', '2048');
    put('devices/sda/sda1/dev', '8:1');
    put('devices/sda/sda1/size', '1024');
    put('devices/sda/sda1/partition', '1');
    put('devices/sda/sda1/ro', '1');
    put('devices/sda/ro', '0');
    put('devices/dm-0/dev', '253:0');
    put('devices/dm-0/size', '1024');
    put('devices/dm-0/slaves/sda1/dev', '8:1');
    mkdirSync(join(sys, 'block'));
    for (const [number, path] of [
      ['8:0', 'sda'],
      ['8:1', 'sda/sda1'],
      ['253:0', 'dm-0'],
    ]) {
      symlinkSync(`../devices/${path}`, join(sys, 'block', number!));
    }
    const host = hostAt('/proc/self/mountinfo', join(sys, 'block'));
    assert.deepEqual(await host.blockDevice('8:0'), {
      number: '8:0',
      name: 'sda',
      size: 2 ** 20,
      readOnly: false,
      below: [],
    });
    assert.deepEqual(await host.blockDevice('8:1'), {
      number: '8:1',
      name: 'sda1',
      size: 2 ** 19,
      readOnly: true,
      below: ['8:0'],
    });
    assert.deepEqual(await host.blockDevice('253:0'), {
      number: '253:0',
      name: 'dm-0',
      size: 2 ** 19,
      readOnly: false,
      below: ['8:1'],
    });
    assert.equal(await host.blockDevice('1:1'), undefined);
  });

  it('knows the devices of a btrfs', async () => {
    const sys = cleanup.folder('host');
    for (const [uuid, name, number] of [
      ['a', 'sda', '8:0'],
      ['a', 'dm-3', '253:3'],
      ['b', 'sdb', '8:16'],
    ]) {
      mkdirSync(join(sys, uuid!, 'devices', name!), { recursive: true });
      writeFileSync(join(sys, uuid!, 'devices', name!, 'dev'), `${number}\n`);
    }
    mkdirSync(join(sys, 'features'));
    const host = hostAt('/proc/self/mountinfo', '/sys/dev/block', sys);
    assert.deepEqual((await host.btrfsDevices('8:0')).sort(), ['253:3', '8:0']);
    assert.deepEqual(await host.btrfsDevices('8:16'), ['8:16']);
    assert.deepEqual(await host.btrfsDevices('8:32'), []);
  });

  it('is this one: a loop device is known by its file, and what is mounted by its device', async () => {
    const path = await loopDevice(cleanup, 16 * 2 ** 20);
    const identity = await thisHost.identify(path);
    const device = await thisHost.blockDevice(identity?.blockDevice ?? '');
    assert.equal(device?.name, path.slice('/dev/'.length));
    assert.equal(device?.size, 16 * 2 ** 20);
    assert.match(device?.backingFile ?? '', /\/content$/);
    await must('mkfs.ext4', ['-q', path]);
    const mountPoint = cleanup.folder('host');
    await must('mount', [path, mountPoint]);
    cleanup.defer(`unmount ${mountPoint}`, () => must('umount', [mountPoint]));
    const mount = await thisHost.mountOf(join(mountPoint, 'not', 'there'));
    assert.deepEqual(
      [mount?.fsType, mount?.device, mount?.mountPoint],
      ['ext4', identity?.blockDevice, mountPoint],
    );
    assert.equal((await thisHost.identify(mountPoint))?.fileSystem, deviceNumber(statSync(mountPoint).dev));
    assert.equal(await thisHost.identify(join(mountPoint, 'missing')), undefined);
  });
});
