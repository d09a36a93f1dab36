import assert from 'node:assert/strict';
import {
  deviceDependence,
  fileDependence,
  inMemory,
  isOrigin,
  type OriginPlace,
} from '../../lib/placement.js';
import { dev, type FakeMachine, fakeHost } from '../helpers/fake-host.js';

const GiB = 2 ** 30;

/** An image of 1 GiB, inode 77 of the file system on 254:1. */
const image: OriginPlace = { size: GiB, dev: 0, lowerDev: 0, lowerInode: 77, lowerFsDev: dev(254, 1) };
/** The disk 8:16. */
const disk: OriginPlace = { size: GiB, dev: 0, lowerDev: dev(8, 16), lowerInode: 0, lowerFsDev: 0 };

function depends(machine: Partial<FakeMachine>, origin = image): Promise<string | undefined> {
  return fileDependence('/backup/monday', origin, fakeHost(machine));
}

describe('a place for files', () => {
  it('on a disk of its own, or on the file system that holds the image, depends on nothing', async () => {
    assert.equal(
      await depends({ mounts: { '/': { device: '254:1' } }, devices: { '254:1': { name: 'vda' } } }),
      undefined,
    );
    assert.equal(
      await depends(
        {
          mounts: { '/': { device: '8:1' } },
          devices: { '8:1': { name: 'sda1', below: ['8:0'] }, '8:0': {} },
        },
        disk,
      ),
      undefined,
    );
    assert.equal(await depends({}), undefined);
  });

  it('on the origin itself is refused, also by way of a partition, LVM or RAID', async () => {
    const below = {
      '8:17': { name: 'sdb1', below: ['8:16'] },
      '253:0': { name: 'dm-0', below: ['9:0'] },
      '9:0': { name: 'md0', below: ['8:17'] },
    };
    const devices = { '8:16': { name: 'sdb' }, ...below };
    for (const device of ['8:16', '8:17', '253:0']) {
      const reason = await depends({ mounts: { '/backup': { device } }, devices }, disk);
      assert.equal(reason, 'lies on the origin itself (sdb)', device);
    }
  });

  it('on a disk that lies beside the origin is allowed', async () => {
    const partitions = {
      '8:17': { name: 'sdb1', below: ['8:16'] },
      '8:18': { name: 'sdb2', below: ['8:16'] },
      '8:16': { name: 'sdb' },
    };
    const origin = { ...disk, lowerDev: dev(8, 17) };
    assert.equal(
      await depends({ mounts: { '/backup': { device: '8:18' } }, devices: partitions }, origin),
      undefined,
    );
  });

  it('on an NBD device of the size of the origin is refused', async () => {
    const on = (size: number, name = 'nbd0') =>
      depends({
        mounts: { '/backup': { device: '43:1' } },
        devices: { '43:1': { name: `${name}p1`, below: ['43:0'], size: 1000 }, '43:0': { name, size } },
      });
    assert.match(
      (await on(GiB)) ?? '',
      /^lies on nbd0, a device served by a program, which may serve the origin itself$/,
    );
    assert.match((await on(GiB - 512)) ?? '', /nbd0/, 'sizes are rounded down');
    assert.match((await on(GiB, 'ublkb3')) ?? '', /ublkb3/);
    assert.match((await on(0)) ?? '', /nbd0/, 'an unknown size could be it');
    assert.equal(await on(2 * GiB), undefined, 'another disk: machines boot from NBD');
  });

  it('on a loop device over a FUSE file of the size of the origin is refused', async () => {
    const on = (size: number | undefined, fsType = 'fuse') =>
      depends({
        mounts: {
          '/backup': { device: '7:0' },
          '/run/export': { fsType, device: '0:60', source: 'nbdfuse' },
        },
        devices: { '7:0': { name: 'loop0', backingFile: '/run/export/nbd' } },
        files: size === undefined ? {} : { '/run/export/nbd': { size, inode: 2, fileSystem: '0:60' } },
      });
    assert.match((await on(GiB)) ?? '', /^lies on loop0, over \/run\/export\/nbd on a FUSE file system/);
    assert.match((await on(GiB, 'fuse.nbdfuse')) ?? '', /FUSE/);
    assert.match((await on(undefined)) ?? '', /FUSE/, 'one that may not be looked at could be it');
    assert.equal(await on(2 * GiB), undefined);
  });

  it('on a loop device over the image of the origin is refused', async () => {
    const machine = {
      mounts: { '/backup': { device: '7:0' } },
      devices: { '7:0': { name: 'loop0', backingFile: '/images/disk.img' } },
      files: { '/images/disk.img': { fileSystem: '254:1', inode: 77 } },
    };
    assert.equal(await depends(machine), 'lies on the origin itself (loop0, over /images/disk.img)');
    assert.equal(
      await depends({ ...machine, files: { '/images/disk.img': { fileSystem: '254:1', inode: 78 } } }),
      undefined,
    );
  });

  it('on a loop device is judged by what lies under its file', async () => {
    const devices = {
      '7:0': { name: 'loop0', backingFile: '/mnt/file' },
      '7:1': { name: 'loop1', backingFile: '/dev/sdb' },
      '8:16': { name: 'sdb' },
    };
    const files = { '/mnt/file': { inode: 5 }, '/dev/sdb': { blockDevice: '8:16' } };
    const onFile = { mounts: { '/backup': { device: '7:0' }, '/mnt': { device: '8:16' } }, devices, files };
    assert.match((await depends(onFile, disk)) ?? '', /origin itself \(sdb\)/);
    assert.match(
      (await depends({ mounts: { '/backup': { device: '7:1' } }, devices, files }, disk)) ?? '',
      /origin itself/,
    );
  });

  it('on a file system without a number of its own is judged by what was mounted', async () => {
    const machine = (mount: object) => ({
      mounts: { '/backup': mount, '/upper': { device: '8:16' } },
      devices: { '8:16': { name: 'sdb' } },
      files: { '/dev/sdb': { blockDevice: '8:16' } },
    });
    assert.match(
      (await depends(machine({ fsType: 'btrfs', source: '/dev/sdb' }), disk)) ?? '',
      /origin itself/,
    );
    assert.match(
      (await depends(machine({ fsType: 'fuseblk', source: '/dev/sdb' }), disk)) ?? '',
      /origin itself/,
    );
    assert.match(
      (await depends(machine({ fsType: 'overlay', options: ['rw', 'upperdir=/upper/1'] }), disk)) ?? '',
      /origin itself/,
    );
    assert.equal(
      await depends(machine({ fsType: 'overlay', options: ['upperdir=/backup/1'] }), disk),
      undefined,
    );
    assert.equal(await depends(machine({ fsType: 'nfs', source: 'server:/export' }), disk), undefined);
  });

  it('that goes in circles is followed once', async () => {
    const devices = { '253:0': { below: ['253:1'] }, '253:1': { below: ['253:0'] } };
    assert.equal(await depends({ mounts: { '/': { device: '253:0' } }, devices }), undefined);
  });

  it('in memory is known as such', async () => {
    const host = fakeHost({
      mounts: { '/': {}, '/dev/shm': { fsType: 'tmpfs' }, '/ram': { fsType: 'ramfs' } },
    });
    assert.equal(await inMemory('/dev/shm/x', host), true);
    assert.equal(await inMemory('/ram', host), true);
    assert.equal(await inMemory('/home', host), false);
  });
});

describe('an origin of the kernel driver', () => {
  // the origin dm-3 forwards to dm-2, its former self, on a partition
  const origin: OriginPlace = {
    size: GiB,
    dev: dev(253, 3),
    lowerDev: dev(253, 2),
    lowerInode: 0,
    lowerFsDev: 0,
  };
  const devices = {
    '253:9': { name: 'dm-9', below: ['253:3'] },
    '253:3': { name: 'dm-3', below: ['253:2'] },
    '253:2': { name: 'dm-2', below: ['8:17'] },
    '253:1': { name: 'dm-1', below: ['8:17'] },
    '8:17': { name: 'sdb1', below: ['8:16'] },
    '8:16': { name: 'sdb' },
    '8:32': { name: 'sdc' },
  };
  const files = Object.fromEntries(
    Object.entries(devices).map(([number, { name }]) => [`/dev/${name}`, { blockDevice: number }]),
  );
  const on = (mount: object, btrfs: string[] = []) =>
    depends({ mounts: { '/backup': mount }, devices, files, btrfs }, origin);

  it('has no files on its own file system, on what stands on it, or on its lower device', async () => {
    assert.equal(await on({ device: '253:3' }), 'lies on the origin itself (dm-3)');
    assert.equal(await on({ device: '253:9' }), 'lies on the origin itself (dm-3)');
    assert.equal(await on({ device: '253:2' }), 'lies on the origin itself (dm-2)');
    assert.equal(await on({ device: '253:1' }), undefined, 'another volume of the same disk');
  });

  it('is found behind the second device of a btrfs or a bcachefs, and under the log of an xfs', async () => {
    const itself = 'lies on the origin itself (dm-3)';
    const btrfs = { fsType: 'btrfs', source: '/dev/sdc' };
    assert.equal(await on(btrfs), undefined);
    assert.equal(await on(btrfs, ['8:32', '253:3']), itself);
    assert.equal(await on({ fsType: 'bcachefs', source: '/dev/sdc:/dev/dm-3' }), itself);
    const xfs = (option: string) => on({ device: '8:32', fsType: 'xfs', options: ['rw', option] });
    assert.equal(await xfs('logdev=/dev/dm-3'), itself);
    assert.equal(await xfs('rtdev=/dev/dm-9'), itself);
    assert.equal(await xfs('logdev=/dev/dm-1'), undefined);
  });

  it('is no device for a container, and neither is what it lies on or what lies on it', async () => {
    const host = fakeHost({ devices, files });
    const reason = (name: string) => deviceDependence(`/dev/${name}`, origin, host);
    assert.match((await reason('dm-9')) ?? '', /lies on the origin itself \(dm-3\)/);
    assert.match((await reason('sdb')) ?? '', /is a device that the origin lies on/);
    assert.match((await reason('sdb1')) ?? '', /is a device that the origin lies on/);
    assert.equal(await reason('dm-1'), undefined);
    assert.equal(await reason('sdc'), undefined);
    assert.equal(await isOrigin('/dev/dm-3', origin, host), true);
    assert.equal(await isOrigin('/dev/dm-2', origin, host), true);
    assert.equal(await isOrigin('/dev/dm-1', origin, host), false);
  });
});

describe('a block device', () => {
  const devices = {
    '8:0': { name: 'sda' },
    '8:1': { name: 'sda1', below: ['8:0'] },
    '8:16': { name: 'sdb' },
    '8:17': { name: 'sdb1', below: ['8:16'] },
  };
  const files = {
    '/dev/sda': { blockDevice: '8:0' },
    '/dev/sda1': { blockDevice: '8:1' },
    '/dev/sdb': { blockDevice: '8:16' },
    '/dev/sdb1': { blockDevice: '8:17' },
  };
  const host = fakeHost({ devices, files });

  it('that is the origin, or lies on it, is refused', async () => {
    assert.match((await deviceDependence('/dev/sdb', disk, host)) ?? '', /lies on the origin itself/);
    assert.match((await deviceDependence('/dev/sdb1', disk, host)) ?? '', /lies on the origin itself/);
  });

  it('that the origin lies on is refused', async () => {
    const reason = 'is a device that the origin lies on';
    assert.equal(await deviceDependence('/dev/sda', { ...disk, lowerDev: dev(8, 1) }, host), reason);
    assert.equal(await deviceDependence('/dev/sda', { ...image, lowerFsDev: dev(8, 1) }, host), reason);
  });

  it('beside the origin is allowed', async () => {
    assert.equal(await deviceDependence('/dev/sda', disk, host), undefined);
    assert.equal(await deviceDependence('/dev/missing', disk, host), undefined);
  });
});

describe('the origin', () => {
  it('is recognised by device number, or by inode and file system', async () => {
    const host = fakeHost({
      files: {
        '/dev/sdb': { blockDevice: '8:16' },
        '/a': { inode: 77, fileSystem: '254:1' },
        '/b': { inode: 77, fileSystem: '254:2' },
      },
    });
    assert.equal(await isOrigin('/dev/sdb', disk, host), true);
    assert.equal(await isOrigin('/dev/sdb', image, host), false);
    assert.equal(await isOrigin('/a', image, host), true);
    assert.equal(await isOrigin('/b', image, host), false);
    assert.equal(await isOrigin('/a', disk, host), false);
    assert.equal(await isOrigin('/missing', image, host), false);
  });
});
