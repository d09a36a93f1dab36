import assert from 'node:assert/strict';
import { Command } from 'commander';
import { type ModuleActions, registerModule } from '../../../lib/cli/module-command.js';
import { Output } from '../../../lib/cli/output.js';
import type { ModuleFacts } from '../../../lib/module/facts.js';
import { TOOL_VERSION } from '../../../lib/tool-version.js';
import { TextSink } from '../../helpers/text-sink.js';

const FACTS: ModuleFacts = {
  release: '6.1.0',
  headers: ['6.1.0'],
  installed: ['6.1.0', '6.12.0'],
  loaded: '0.0.9',
  driver: { version: '0.0.9', abiVersion: 2 },
  dkms: true,
  registered: ['0.1.0'],
  secureBoot: false,
  signingKey: '/var/lib/dkms/mok.pub',
  libdevmapper: true,
};

describe('snapbak module', () => {
  let facts: ModuleFacts;
  let asked: unknown[];

  beforeEach(() => {
    facts = { ...FACTS };
    asked = [];
  });

  async function cli(...args: string[]): Promise<string[]> {
    const actions: ModuleActions = {
      async installModule(kernel) {
        asked.push(kernel);
        return {
          version: '0.1.0',
          kernel: kernel ?? '6.1.0',
          loaded: kernel === undefined,
          note: 'mind this',
        };
      },
      uninstallModule: async () => facts.registered,
      moduleFacts: async () => facts,
      abiVersion: () => 3,
    };
    const out = new TextSink();
    const program = new Command().exitOverride();
    registerModule(program, { output: new Output(out, new TextSink()), exit: () => {} }, actions);
    await program.parseAsync(['module', ...args], { from: 'user' });
    return out.lines;
  }

  it('status tells installed, loaded and the versions', async () => {
    assert.deepEqual(await cli('status'), [
      `this package: ${TOOL_VERSION}, contract version 3`,
      'in DKMS:      0.1.0',
      'installed:    6.1.0, 6.12.0',
      'running:      6.1.0',
      'loaded:       0.0.9',
      'speaks:       contract version 2',
    ]);
  });

  it('status tells what there is not', async () => {
    const { loaded: _, driver: __, ...rest } = FACTS;
    facts = { ...rest, installed: ['6.12.0'], registered: [] };
    const lines = await cli('status');
    assert.deepEqual(lines.slice(1), [
      'in DKMS:      none',
      'installed:    6.12.0',
      'running:      6.1.0 (not installed for it)',
      'loaded:       no',
    ]);
    facts = { ...FACTS, driver: { errno: 'EACCES' } };
    assert.equal((await cli('status')).at(-1), 'speaks:       not known (EACCES)');
  });

  it('install tells what was done, and what is left to do', async () => {
    const [begin, ...lines] = await cli('install');
    assert.match(begin!, /building/);
    assert.deepEqual(lines, ['installed version 0.1.0 for 6.1.0, and loaded it', 'mind this']);
    assert.equal((await cli('install', '--kernel', '6.12.0'))[1], 'installed version 0.1.0 for 6.12.0');
    assert.deepEqual(asked, [undefined, '6.12.0']);
  });

  it('uninstall tells which versions are gone', async () => {
    facts.registered = ['0.0.9', '0.1.0'];
    assert.deepEqual(await cli('uninstall'), ['removed 0.0.9, 0.1.0']);
    facts.registered = [];
    assert.deepEqual(await cli('uninstall'), ['DKMS knows no version of it']);
  });

  it('tells programs in JSON', async () => {
    const parsed = async (command: string) => JSON.parse((await cli(command, '--json'))[0]!);
    assert.deepEqual(await parsed('status'), {
      event: 'module',
      package: { version: TOOL_VERSION, abiVersion: 3 },
      ...FACTS,
    });
    assert.equal((await parsed('install')).event, 'module-installed');
    assert.deepEqual(await parsed('uninstall'), { event: 'module-uninstalled', versions: ['0.1.0'] });
  });
});
