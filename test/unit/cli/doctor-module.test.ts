import assert from 'node:assert/strict';
import { moduleChecks } from '../../../lib/cli/doctor-module.js';
import type { ModuleFacts } from '../../../lib/module/facts.js';

const { loaded: LOADED, driver: DRIVER } = {
  loaded: '0.1.0',
  driver: { version: '0.1.0', abiVersion: 1 },
} as const;

const FACTS: ModuleFacts = {
  release: '6.1.0',
  headers: ['6.1.0'],
  installed: ['6.1.0'],
  dkms: true,
  registered: ['0.1.0'],
  secureBoot: false,
  signingKey: undefined,
  libdevmapper: true,
};

describe('snapbak doctor on the kernel driver', () => {
  const checks = (facts: Partial<ModuleFacts>) => moduleChecks({ ...FACTS, ...facts }, '0.1.0', 1);
  const check = (name: string, facts: Partial<ModuleFacts>) =>
    checks(facts).find((found) => found.name === name)!;

  it('finds all good where it is installed, loaded or not', () => {
    for (const facts of [{}, { loaded: LOADED, driver: DRIVER }]) {
      assert.deepEqual(
        checks(facts).map(({ name, state }) => [name, state]),
        ['module', 'headers', 'dkms', 'secure boot', 'libdevmapper'].map((name) => [name, 'good']),
      );
    }
  });

  it('never calls anything of it missing: other drivers work without', () => {
    const nothing = {
      headers: [],
      installed: [],
      dkms: false,
      registered: [],
      secureBoot: true,
      libdevmapper: false,
    };
    for (const { name, state, advice } of checks(nothing)) {
      assert.equal(state, 'note', name);
      assert.ok(advice, name);
    }
    assert.match(check('module', nothing).advice!, /snapbak module install/);
    assert.match(check('libdevmapper', nothing).advice!, /libdevmapper1\.02\.1/);
    assert.match(check('headers', nothing).advice!, /linux-headers-6\.1\.0/);
  });

  it('tells of a module for other kernels only', () => {
    const { state, found } = check('module', { installed: ['6.12.0'] });
    assert.deepEqual([state, found], ['note', 'not for this kernel, but for 6.12.0']);
  });

  it('compares the versions of the contract, and of the package', () => {
    const other = check('module', { loaded: LOADED, driver: { version: '0.1.0', abiVersion: 2 } });
    assert.equal(other.state, 'note');
    assert.match(other.advice!, /speaks version 1.*module install/);
    const older = check('module', { loaded: '0.0.9', driver: { version: '0.0.9', abiVersion: 1 } });
    assert.match(older.advice!, /brings 0\.1\.0/);
    const silent = check('module', { loaded: LOADED, driver: { errno: 'EACCES' } });
    assert.match(silent.found, /cannot be asked \(EACCES\)/);
  });

  it('says what secure boot asks for', () => {
    assert.match(
      check('secure boot', { secureBoot: true, signingKey: '/key' }).advice!,
      /mokutil --import \/key/,
    );
    assert.match(check('secure boot', { secureBoot: true }).advice!, /makes a key with the first/);
    assert.equal(check('secure boot', { secureBoot: undefined }).state, 'note');
  });
});
