import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { installModule, type ModuleSystem, thisSystem, uninstallModule } from '../../../lib/module/dkms.js';
import type { ModuleFacts } from '../../../lib/module/facts.js';
import { TOOL_VERSION } from '../../../lib/tool-version.js';
import { Cleanup } from '../../helpers/cleanup.js';

const RELEASE = '6.1.0-9-amd64';
const ID = `dm-snapbak/${TOOL_VERSION}`;
const FOLDER = `/usr/src/dm-snapbak-${TOOL_VERSION}`;

describe('the kernel module, through DKMS', () => {
  let facts: ModuleFacts;
  let root: boolean;
  let did: string[];
  /** Command lines that fail, and what the program says. */
  let failing: Map<string, string>;
  let system: ModuleSystem;

  beforeEach(() => {
    root = true;
    did = [];
    failing = new Map();
    facts = {
      release: RELEASE,
      headers: [RELEASE, '6.12.0'],
      installed: [],
      dkms: true,
      registered: [],
      secureBoot: false,
      signingKey: undefined,
      libdevmapper: true,
    };
    system = {
      facts: async () => facts,
      isRoot: () => root,
      async run(program, args) {
        const line = [program, ...args].join(' ');
        did.push(line);
        const said = failing.get(line);
        if (said !== undefined) throw new Error(said);
      },
      copySources: async (to) => void did.push(`copy to ${to}`),
      remove: async (folder) => void did.push(`rm ${folder}`),
    };
  });

  const ADD = [`rm ${FOLDER}`, `copy to ${FOLDER}`, `dkms add ${ID}`];

  it('is built for the running kernel and loaded', async () => {
    assert.deepEqual(await installModule(undefined, system), {
      version: TOOL_VERSION,
      kernel: RELEASE,
      loaded: true,
    });
    assert.deepEqual(did, [...ADD, `dkms install ${ID} -k ${RELEASE}`, 'modprobe dm-snapbak']);
  });

  it('is built for another kernel and not loaded', async () => {
    const { kernel, loaded } = await installModule('6.12.0', system);
    assert.deepEqual([kernel, loaded], ['6.12.0', false]);
    assert.deepEqual(did, [...ADD, `dkms install ${ID} -k 6.12.0`]);
  });

  it('takes the place of the versions before it', async () => {
    Object.assign(facts, { registered: ['0.0.1'], loaded: '0.0.1' });
    await installModule(undefined, system);
    assert.deepEqual(did, [
      'dkms remove dm-snapbak/0.0.1 --all',
      'rm /usr/src/dm-snapbak-0.0.1',
      ...ADD,
      `dkms install ${ID} -k ${RELEASE}`,
      'modprobe -r dm-snapbak',
      'modprobe dm-snapbak',
    ]);
  });

  it('leaves an older one loaded that is in use, and says so', async () => {
    facts.loaded = '0.0.1';
    failing.set('modprobe -r dm-snapbak', 'Module dm_snapbak is in use');
    const { loaded, note } = await installModule(undefined, system);
    assert.equal(loaded, false);
    assert.match(note!, /version 0\.0\.1 is loaded and in use: detach/);
  });

  it('tells how to enrol the key when the kernel refuses it under secure boot', async () => {
    facts.secureBoot = true;
    failing.set('modprobe dm-snapbak', 'Key was rejected by service');
    const { loaded, note } = await installModule(undefined, system);
    assert.equal(loaded, false);
    assert.match(note!, /Key was rejected.*mokutil --import/);
    facts.secureBoot = false;
    assert.doesNotMatch((await installModule(undefined, system)).note!, /mokutil/);
  });

  it('needs root, DKMS and the headers', async () => {
    facts.headers = [];
    await assert.rejects(installModule(undefined, system), {
      code: 'ERR_SNAPBAK_MISSING',
      message: /linux-headers-6\.1\.0-9-amd64/,
    });
    facts.dkms = false;
    await assert.rejects(installModule(undefined, system), { message: /apt-get install dkms/ });
    await assert.rejects(uninstallModule(system), { code: 'ERR_SNAPBAK_MISSING' });
    root = false;
    await assert.rejects(installModule(undefined, system), { code: 'ERR_SNAPBAK_PERMISSION' });
    await assert.rejects(uninstallModule(system), { code: 'ERR_SNAPBAK_PERMISSION' });
    assert.deepEqual(did, []);
  });

  it('is removed in all versions', async () => {
    facts.registered = ['0.0.1', '0.1.0'];
    assert.deepEqual(await uninstallModule(system), ['0.0.1', '0.1.0']);
    assert.deepEqual(did, [
      'dkms remove dm-snapbak/0.0.1 --all',
      'rm /usr/src/dm-snapbak-0.0.1',
      'dkms remove dm-snapbak/0.1.0 --all',
      'rm /usr/src/dm-snapbak-0.1.0',
    ]);
  });

  it('is not removed while a device is attached', async () => {
    Object.assign(facts, { registered: ['0.1.0'], loaded: '0.1.0' });
    failing.set('modprobe -r dm-snapbak', 'in use');
    await assert.rejects(uninstallModule(system), { code: 'ERR_SNAPBAK_BUSY', message: /detach all/ });
    assert.deepEqual(did, ['modprobe -r dm-snapbak']);
  });
});

describe("the module's sources", () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  it('are copied whole, in the version of this package', async () => {
    const folder = join(cleanup.folder('module-sources'), 'copy');
    await thisSystem.copySources(folder);
    for (const name of ['Kbuild', 'Makefile', 'include/uapi/linux/snapbak.h', 'compat', 'core']) {
      assert.ok(existsSync(join(folder, name)), name);
    }
    const [, version] = /^PACKAGE_VERSION="(.+)"$/m.exec(readFileSync(join(folder, 'dkms.conf'), 'utf8'))!;
    assert.equal(version, TOOL_VERSION);
    const [, own] = /define SNAPBAK_VERSION "(.+)"/.exec(readFileSync(join(folder, 'dm-snapbak.h'), 'utf8'))!;
    assert.equal(own, TOOL_VERSION);
  });

  it('are told what a program said that failed', async () => {
    await assert.rejects(thisSystem.run('sh', ['-c', 'echo to stdout; echo to stderr >&2; exit 1']), {
      code: 'ERR_SNAPBAK_IO',
      message: /sh -c .* failed:\nto stdout\n+to stderr$/,
    });
  });
});
