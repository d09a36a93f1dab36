import assert from 'node:assert/strict';
import { examine, type Machine } from '../../../lib/cli/doctor-command.js';
import { fakeBinding } from '../../helpers/fake-session.js';

const machine: Machine = {
  nodeVersion: '20.11.0',
  kernel: '6.1.0',
  architecture: 'x64',
  binding: () => fakeBinding({ abiVersion: 1, crc32cImplementation: () => 'sse4.2' }),
  limits: async () =>
    'Limit  Soft Limit  Hard Limit  Units\nMax locked memory         unlimited   unlimited   bytes\n',
  nbdkit: () => '/usr/bin/nbdkit',
  plugin: () => '/lib/plugin.so',
  version: async (program) => `${program} 1.2.3`,
  moduleFacts: async () => ({
    release: '6.1.0',
    headers: ['6.1.0'],
    installed: ['6.1.0'],
    dkms: true,
    registered: ['0.1.0'],
    secureBoot: false,
    signingKey: '/var/lib/dkms/mok.pub',
    libdevmapper: true,
  }),
};

/** Of the kernel driver; see doctor-module.test.ts. */
const DRIVER_CHECKS = ['module', 'headers', 'dkms', 'secure boot', 'libdevmapper'];

function fail(): never {
  throw new Error('not there\nmore');
}

describe('snapbak doctor', () => {
  it('finds nothing wrong where all is there', async () => {
    const checks = await examine(machine);
    assert.deepEqual(
      checks.map(({ name, state }) => [name, state]),
      ['kernel', 'node', 'addon', 'memlock', 'nbdkit', 'plugin', 'nbdfuse', ...DRIVER_CHECKS].map((name) => [
        name,
        'good',
      ]),
    );
    assert.match(checks[2]!.found, /CRC32C by sse4\.2/);
  });

  it('says of each thing that is missing what to do, and fails for none of them', async () => {
    const checks = await examine({
      ...machine,
      nodeVersion: '20.9.0',
      binding: fail,
      limits: async () => 'Max locked memory         8388608              8388608              bytes',
      nbdkit: fail,
      plugin: fail,
      version: async () => fail(),
    });
    assert.deepEqual(
      checks.slice(1).map(({ name, state }) => [name, state]),
      [
        ['node', 'missing'],
        ['addon', 'missing'],
        ['memlock', 'note'],
        ['nbdkit', 'missing'],
        ['plugin', 'missing'],
        ['nbdfuse', 'note'],
        ['module', 'note'],
      ],
    );
    for (const { name, advice } of checks.slice(1, -1)) assert.ok(advice !== undefined, name);
    assert.equal(checks[3]!.found, '8 MiB');
    assert.equal(checks[4]!.found, 'not there');
  });

  it('warns of the versions of nbdkit that abort when a client hangs up', async () => {
    const state = async (version: string) => {
      const checks = await examine({ ...machine, version: async () => `nbdkit ${version}` });
      return checks.find(({ name }) => name === 'nbdkit')!.state;
    };
    for (const version of ['1.32.3', '1.33.10', '1.34.0', '1.42.2'])
      assert.equal(await state(version), 'good');
    for (const version of ['1.32.4', '1.32.5', '1.33.9']) assert.equal(await state(version), 'note');
  });

  it('does not know what it cannot read', async () => {
    const checks = await examine({ ...machine, limits: async () => fail() });
    assert.equal(checks[3]!.found, 'unknown');
  });
});
