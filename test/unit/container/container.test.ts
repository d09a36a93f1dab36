import assert from 'node:assert/strict';
import type { ContainerContext } from '../../../lib/container/container.js';
import { memoryContainer } from '../../../lib/container/memory-container.js';
import { fakeInfo } from '../../helpers/fake-session.js';

const MiB = 2 ** 20;

function context(size = 64 * MiB, blockSize = 65_536): ContainerContext {
  return { origin: fakeInfo(size), blockSize };
}

describe('a container of memory', () => {
  it('is cut into slots of a block', async () => {
    const container = memoryContainer(10 * MiB + 100);
    assert.equal(container.description, 'memory of 10 MiB');
    const open = await container.open(context());
    assert.equal(open.slots, 160);
    assert.equal(open.tiers, undefined);
    await open.close();
    await open.close();
  });

  it('has no more slots than the origin has blocks, and at least one', async () => {
    assert.equal((await memoryContainer(10 * MiB).open(context(5 * 65_536 + 1))).slots, 6);
    assert.equal((await memoryContainer(10 * MiB).open(context(0))).slots, 1);
  });

  it('is refused if it is less than a block, more than the driver takes, or more than is free', async () => {
    const code = 'ERR_SNAPBAK_CONTAINER';
    await assert.rejects(memoryContainer(65_535).open(context()), {
      code,
      message: /64 KiB of memory is less than one block \(64 KiB\)/,
    });
    const few = { ...context(), origin: { ...fakeInfo(64 * MiB), maxSlots: 16 } };
    await assert.rejects(memoryContainer(2 * MiB).open(few), {
      code,
      message: /more than the driver takes \(1 MiB\)/,
    });
    await assert.rejects(memoryContainer(2 * MiB, () => MiB).open(context()), {
      code,
      message: /more than this machine has free \(1 MiB\)/,
    });
  });

  it('wants a number of bytes', () => {
    assert.throws(() => memoryContainer('1M' as unknown as number), {
      name: 'TypeError',
      message: /size .*"1M"/,
    });
    assert.throws(() => memoryContainer(0), { name: 'RangeError', message: /size .*got 0/ });
  });
});
