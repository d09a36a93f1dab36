import assert from 'node:assert/strict';
import { Command } from 'commander';
import { type AttachActions, registerAttach } from '../../../lib/cli/attach-command.js';
import { Output } from '../../../lib/cli/output.js';
import { TextSink } from '../../helpers/text-sink.js';

const ATTACHED = {
  device: '/dev/mapper/a',
  lower: '/dev/mapper/a-snapbak',
  size: 2 ** 30,
  stoppedMs: 12.345,
};

describe('snapbak attach and detach', () => {
  let asked: unknown[];
  let actions: AttachActions;

  beforeEach(() => {
    asked = [];
    actions = {
      async attachOrigin(...args) {
        asked.push(['attach', ...args]);
        return ATTACHED;
      },
      async detachOrigin(...args) {
        asked.push(['detach', ...args]);
        return { device: '/dev/mapper/a', outcome: 'restored', stoppedMs: 3, lowerInUse: false };
      },
    };
  });

  async function cli(...args: string[]): Promise<string> {
    const out = new TextSink();
    const program = new Command().exitOverride();
    registerAttach(program, { output: new Output(out, new TextSink()), exit: () => {} }, actions);
    await program.parseAsync(args, { from: 'user' });
    return out.text;
  }

  it('say what was done, and for how long the device stood still', async () => {
    assert.equal(
      await cli('attach', '/dev/vg/a'),
      'attached /dev/mapper/a, 1 GiB; writes stood still for 12.3 ms at most\n' +
        'its table is now that of /dev/mapper/a-snapbak\n',
    );
    assert.equal(
      await cli('detach', '/dev/vg/a'),
      'detached /dev/mapper/a; writes stood still for 3 ms at most\n',
    );
    assert.deepEqual(asked, [
      ['attach', '/dev/vg/a', {}],
      ['detach', '/dev/vg/a', { force: false }],
    ]);
  });

  it('pass their options on', async () => {
    actions.attachOrigin = async (...args) => {
      asked.push(args);
      return { device: '/dev/mapper/new', size: 2 ** 20, stoppedMs: 0 };
    };
    assert.match(await cli('attach', '--create', 'new', '/dev/sdb'), /^made \/dev\/mapper\/new, 1 MiB/);
    await cli('detach', '--force', '/dev/mapper/new');
    assert.deepEqual(asked, [
      ['/dev/sdb', { create: 'new' }],
      ['detach', '/dev/mapper/new', { force: true }],
    ]);
  });

  it('tell programs in JSON', async () => {
    assert.deepEqual(JSON.parse(await cli('attach', '--json', '/dev/vg/a')), {
      event: 'attached',
      ...ATTACHED,
    });
    assert.deepEqual(JSON.parse(await cli('detach', '--json', '/dev/vg/a')), {
      event: 'detached',
      device: '/dev/mapper/a',
      outcome: 'restored',
      stoppedMs: 3,
      lowerInUse: false,
    });
  });

  it('tell each way in which a device was detached', async () => {
    const says = async (outcome: 'linear' | 'removed' | 'cleaned', lowerInUse = false) => {
      actions.detachOrigin = async () => ({ device: '/dev/mapper/a', outcome, stoppedMs: 1, lowerInUse });
      return await cli('detach', '/dev/vg/a');
    };
    assert.match(await says('linear'), /goes on as a linear device/);
    assert.match(await says('removed'), /^removed \/dev\/mapper\/a/);
    assert.match(await says('cleaned', true), /was not attached; .* gone\n.*still open somewhere/);
  });
});
