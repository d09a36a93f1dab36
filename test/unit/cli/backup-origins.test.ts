import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BlockList } from '../../../lib/blocks/block-list.js';
import { openOrigins, whatOfOrigins } from '../../../lib/cli/backup-origins.js';
import type { Container } from '../../../lib/container/container.js';
import type { Origin } from '../../../lib/origin.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { FakeSession, fakeInfo, fakeOrigin, MiB } from '../../helpers/fake-session.js';

/** Nothing was asked for. */
const NONE = {};

describe('the origins of a command', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  /** What `startBackup` is given, and what was opened and closed. */
  async function opened(texts: string[], flags: Parameters<typeof whatOfOrigins>[1] = NONE, missing = '') {
    const log: string[] = [];
    const open = async (spec: string): Promise<Origin> => {
      if (spec === missing) throw new Error(`no ${spec}`);
      log.push(`open ${spec}`);
      return { ...fakeOrigin(new FakeSession(), spec), close: async () => void log.push(`close ${spec}`) };
    };
    const what = await whatOfOrigins(texts, flags);
    const result = await openOrigins(what, open).catch((error: Error) => error);
    return { log, result: result as Exclude<typeof result, Error>, error: result as Error };
  }

  it('are one, as ever', async () => {
    const { result, log } = await opened(['/dev/mapper/x']);
    assert.deepEqual(Object.keys(result.options), ['origin']);
    assert.equal(result.options.origin?.spec, '/dev/mapper/x');
    await result[Symbol.asyncDispose]();
    assert.deepEqual(log, ['open /dev/mapper/x', 'close /dev/mapper/x']);
  });

  it('are several, with names where they were given', async () => {
    const { result } = await opened(['a=/dev/mapper/x', 'unix:/run/y=z.control'], { blocks: 'used' });
    const origins = result.options.origins as { origin: Origin; name?: string; blocks?: string }[];
    assert.deepEqual(
      origins.map(({ origin, name, blocks }) => [origin.spec, name, blocks]),
      [
        ['/dev/mapper/x', 'a', 'used'],
        ['unix:/run/y=z.control', undefined, 'used'],
      ],
    );
    const one = await opened(['a=unix:/run/x']);
    assert.equal(one.result.options.origins?.length, 1, 'a name makes it a list');
  });

  it('share memory evenly, and each has a container of its own', async () => {
    const { result } = await opened(['/dev/mapper/x', '/dev/mapper/y'], {
      ...NONE,
      container: ['memory:3M'],
    });
    const containers = result.options.origins!.map((plan) => (plan as { container: Container }).container);
    assert.notEqual(containers[0], containers[1]);
    for (const container of containers) {
      assert.equal((await container.open({ origin: fakeInfo(16 * MiB), blockSize: 65_536 })).slots, 24);
    }
  });

  it('have one container, block list, target device and export if they are one', async () => {
    const list = join(cleanup.folder('origins'), 'list');
    writeFileSync(list, '0 4096\n');
    const flags = { blocks: list, container: ['memory:3M'], targetDevice: '/dev/x', export: '/run/x' };
    const { result } = await opened(['/dev/mapper/x'], flags);
    assert.ok(result.options.blocks instanceof BlockList);
    assert.equal(result.options.container && 'open' in result.options.container, true);
  });

  it('are closed again when one of them cannot be opened', async () => {
    const { log, error } = await opened(['/dev/mapper/x', '/dev/mapper/y'], NONE, '/dev/mapper/y');
    assert.match(error.message, /no \/dev\/mapper\/y/);
    assert.deepEqual(log, ['open /dev/mapper/x', 'close /dev/mapper/x']);
  });

  for (const [what, flags, message] of [
    ['a target device', { ...NONE, targetDevice: '/dev/x' }, /--target-device is for a backup of one origin/],
    ['an export', { ...NONE, export: '/run/x' }, /--export is for a backup of one origin/],
    ['a file of blocks', { blocks: './list' }, /--blocks is for a backup of one origin/],
    ['a file container', { ...NONE, container: ['file:/x:1G'] }, /--container takes memory:SIZE only/],
    [
      'a container with a second tier',
      { ...NONE, container: ['memory:1M', 'file:/x:1G'] },
      /memory:SIZE only/,
    ],
    ['no memory', { ...NONE, container: ['memory:0'] }, /memory must be above 0/],
  ] as const) {
    it(`are not several with ${what}: wrong use`, async () => {
      const flagged = flags as unknown as Parameters<typeof whatOfOrigins>[1];
      await assert.rejects(whatOfOrigins(['/dev/mapper/x', '/dev/mapper/y'], flagged), {
        name: 'RangeError',
        message,
      });
    });
  }
});
