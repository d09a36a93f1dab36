import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { NativeDeviceMapper } from '../../../lib/binding.js';
import { type ModulePlaces, moduleFacts } from '../../../lib/module/facts.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { fakeBinding, nativeError } from '../../helpers/fake-session.js';

const VARIABLE = 'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';

describe('the facts about the kernel module', () => {
  const cleanup = new Cleanup();
  let places: ModulePlaces;
  let libdevmapper: boolean;

  beforeEach(() => {
    libdevmapper = true;
    places = {
      root: cleanup.folder('module-facts'),
      release: '6.1.0-9-amd64',
      findProgram: () => undefined,
      native: () =>
        fakeBinding({
          deviceMapper: { installed: () => libdevmapper } as NativeDeviceMapper,
          queryKernelDriver: () => ({ version: '1.2.3', abiVersion: 7 }),
        }),
    };
  });
  afterEach(() => cleanup.run());

  function file(path: string, content: string | Buffer = '') {
    const full = join(places.root, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, content);
  }

  it('are few on a machine that has nothing', async () => {
    assert.deepEqual(await moduleFacts(places), {
      release: '6.1.0-9-amd64',
      headers: [],
      installed: [],
      dkms: false,
      registered: [],
      secureBoot: false,
      signingKey: undefined,
      libdevmapper: true,
    });
  });

  it('name the kernels that have headers, and those that have the module', async () => {
    file('lib/modules/6.1.0-9-amd64/build/Makefile');
    file('lib/modules/6.1.0-9-amd64/updates/dkms/dm-snapbak.ko');
    file('lib/modules/6.12.1/updates/dm-snapbak.ko.xz');
    file('lib/modules/5.10.0/updates/dkms/dm-snapbak.ko.old');
    file('lib/modules/5.10.0/extra/dm-other.ko');
    const { headers, installed } = await moduleFacts(places);
    assert.deepEqual(headers, ['6.1.0-9-amd64']);
    assert.deepEqual(installed, ['6.1.0-9-amd64', '6.12.1']);
  });

  it('name the versions that DKMS has', async () => {
    file('var/lib/dkms/dm-snapbak/0.1.0/source');
    file('var/lib/dkms/dm-snapbak/kernel-6.1.0-9-amd64-x86_64/x');
    file('var/lib/dkms/mok.pub');
    places.findProgram = (name) => `/usr/sbin/${name}`;
    const { dkms, registered, signingKey } = await moduleFacts(places);
    assert.deepEqual([dkms, registered, signingKey], [true, ['0.1.0'], '/var/lib/dkms/mok.pub']);
  });

  it('tell what the loaded module says of itself', async () => {
    file('sys/module/dm_snapbak/version', '1.2.2\n');
    const { loaded, driver } = await moduleFacts(places);
    assert.deepEqual([loaded, driver], ['1.2.2', { version: '1.2.3', abiVersion: 7 }]);
  });

  it('tell why the loaded module could not be asked', async () => {
    file('sys/module/dm_snapbak/version', '1.2.2\n');
    places.native = () =>
      fakeBinding({
        deviceMapper: { installed: () => true } as NativeDeviceMapper,
        queryKernelDriver: () => {
          throw nativeError(13, 'connect');
        },
      });
    assert.deepEqual((await moduleFacts(places)).driver, { errno: 'EACCES' });
  });

  it('read secure boot from the firmware', async () => {
    const state = async () => (await moduleFacts(places)).secureBoot;
    file('sys/firmware/efi/runtime');
    assert.equal(await state(), undefined);
    file(VARIABLE, Buffer.from([6, 0, 0, 0, 1]));
    assert.equal(await state(), true);
    file(VARIABLE, Buffer.from([6, 0, 0, 0, 0]));
    assert.equal(await state(), false);
    file(VARIABLE, Buffer.from([6, 0]));
    assert.equal(await state(), undefined);
  });

  it('know libdevmapper', async () => {
    libdevmapper = false;
    assert.equal((await moduleFacts(places)).libdevmapper, false);
  });
});
