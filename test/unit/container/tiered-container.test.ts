import assert from 'node:assert/strict';
import { type Container, type OpenContainer, slotsFor } from '../../../lib/container/container.js';
import { memoryContainer } from '../../../lib/container/memory-container.js';
import { tieredContainer } from '../../../lib/container/tiered-container.js';
import { fakeInfo } from '../../helpers/fake-session.js';

const MiB = 2 ** 20;
const context = { origin: fakeInfo(64 * MiB), blockSize: 65_536 };

/** A container with a second tier of this name. */
function named(name: string, log: string[], open: Partial<OpenContainer> = {}): Container {
  return {
    description: `1 MiB of memory, then ${name}`,
    second: name,
    async open(context) {
      log.push(`open ${name}`);
      return {
        slots: slotsFor(MiB, context, MiB),
        tiers: [{ description: name, fd: 5, direct: true, capacity: MiB }],
        async close() {
          log.push(`close ${name}`);
        },
        ...open,
      };
    },
  };
}

describe('several containers as one', () => {
  it('have the slots of the first, and all second tiers in order', async () => {
    const log: string[] = [];
    const excluded = [{ offset: 0, length: 65_536 }];
    const container = tieredContainer([
      memoryContainer(2 * MiB),
      named('a', log, { excluded }),
      tieredContainer([named('b', log), named('c', log)]),
    ]);
    assert.equal(container.description, 'memory of 2 MiB, then a, then b, then c');
    const open = await container.open(context);
    assert.equal(open.slots, 32);
    assert.deepEqual(
      open.tiers?.map(({ description }) => description),
      ['a', 'b', 'c'],
    );
    assert.deepEqual(open.excluded, excluded);
    await open.close();
    assert.deepEqual(log, ['open a', 'open b', 'open c', 'close a', 'close b', 'close c']);
  });

  it('are that container where it is only one', () => {
    const one = memoryContainer(MiB);
    assert.equal(tieredContainer([one]), one);
  });

  it('are closed again if one of them cannot be opened', async () => {
    const log: string[] = [];
    const broken = { ...named('b', log), open: () => Promise.reject(new Error('no')) };
    await assert.rejects(tieredContainer([named('a', log), broken]).open(context), /no/);
    assert.deepEqual(log, ['open a', 'close a']);
  });

  it('are all closed, and the first failure is told', async () => {
    const log: string[] = [];
    const close = () => Promise.reject(new Error('stuck'));
    const open = await tieredContainer([named('a', log, { close }), named('b', log)]).open(context);
    await assert.rejects(open.close(), /stuck/);
    assert.deepEqual(log, ['open a', 'open b', 'close b']);
  });

  it('are refused where one that is not the first is memory alone', async () => {
    const log: string[] = [];
    await assert.rejects(tieredContainer([named('a', log), memoryContainer(MiB)]).open(context), {
      code: 'ERR_SNAPBAK_CONTAINER',
      message: /memory of 1 MiB has no second tier; memory comes first, and once/,
    });
    assert.deepEqual(log, ['open a', 'close a']);
  });

  it('want a list of containers', () => {
    assert.throws(() => tieredContainer('a' as never), { name: 'TypeError', message: /a list, not "a"/ });
    assert.throws(() => tieredContainer([]), { name: 'RangeError', message: /must not be empty/ });
    assert.throws(() => tieredContainer([memoryContainer(MiB), {} as Container]), {
      name: 'TypeError',
      message: /containers\[1\]\.open must be a function/,
    });
  });
});
