import assert from 'node:assert/strict';
import {
  isDeviceName,
  isLower,
  isPrivate,
  lowerName,
  lowerUuid,
  nameOfPath,
  nameTooLong,
  originName,
} from '../../../lib/attach/names.js';

const VOLUME = { name: 'vg-data', uuid: `LVM-${'v'.repeat(32)}${'l'.repeat(32)}` };
const LUKS = { name: 'home', uuid: 'CRYPT-LUKS2-8c3d3aad1c2442268c692eeda11a888b-home' };
const BARE = { name: 'x', uuid: '' };
const LONG = { name: 'n'.repeat(100), uuid: `CRYPT-LUKS2-${'0'.repeat(32)}-${'n'.repeat(80)}` };

describe('the lower device', () => {
  it('of an LVM volume is a layer of that volume', () => {
    assert.equal(lowerName('vg-data'), 'vg-data-snapbak');
    assert.equal(lowerUuid(VOLUME), `${VOLUME.uuid}-snapbak`);
  });

  it('has a UUID of its own that the kernel takes and LVM passes over', () => {
    const uuids = [VOLUME, LUKS, BARE, LONG].map(lowerUuid);
    assert.equal(new Set(uuids).size, 4);
    for (const uuid of uuids) {
      // _is_usable_uuid() of LVM2: longer than "LVM-", two identifiers of 32 and a zero
      assert.ok(uuid.startsWith('LVM-') && uuid.length > 5 + 2 * 32, uuid);
      assert.ok(uuid.length <= 128, uuid);
      // sysfs_devno_is_dm_private() of util-linux
      assert.match(uuid, /-[^-]+$/);
    }
    assert.match(lowerUuid(LUKS), /CRYPT-LUKS2-8c3d3aad1c2442268c692eeda11a888b-home/);
    assert.match(lowerUuid(LONG), /n{100}/);
  });

  it('is known again', () => {
    for (const origin of [VOLUME, LUKS, BARE]) {
      const lower = { name: lowerName(origin.name), uuid: lowerUuid(origin) };
      assert.ok(isLower(lower));
      assert.ok(isPrivate(lower.uuid));
      assert.equal(originName(lower.name), origin.name);
      assert.ok(!isLower(origin));
      assert.ok(!isPrivate(origin.uuid));
    }
    assert.ok(!isLower({ name: 'mine-snapbak', uuid: '' }));
    assert.ok(!isLower({ name: 'x', uuid: lowerUuid(BARE) }));
  });

  it('cannot be named after a name that is too long', () => {
    assert.ok(nameTooLong({ name: 'n'.repeat(120), uuid: '' }));
    for (const origin of [VOLUME, LUKS, BARE, LONG]) assert.ok(!nameTooLong(origin), origin.name);
  });

  it('is private like the layers of LVM and the subdevices of LUKS', () => {
    assert.ok(isPrivate(`${VOLUME.uuid}-real`));
    assert.ok(isPrivate('CRYPT-SUBDEV-8c3d3aad1c2442268c692eeda11a888b-home'));
  });
});

describe('the name behind a path', () => {
  it('is found for paths that lead nowhere any more', () => {
    assert.equal(nameOfPath('/dev/mapper/home'), 'home');
    assert.equal(nameOfPath('/dev/vg-one/my-data'), 'vg--one-my--data');
    for (const path of ['/dev/sda1', '/mnt/x/y', '/dev/a/b/c', '/dev/mapper/']) {
      assert.equal(nameOfPath(path), undefined, path);
    }
  });
});

describe('a name for a new device', () => {
  it('is one that needs no escaping', () => {
    for (const name of ['data', 'vg-data', 'a.b_c', 'x1']) assert.ok(isDeviceName(name), name);
    for (const name of ['', '-x', 'a/b', 'a b', 'ä', '\\x20', 'n'.repeat(128)])
      assert.ok(!isDeviceName(name), name);
  });
});
