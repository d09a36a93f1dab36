import assert from 'node:assert/strict';
import { freezeOrder } from '../../../lib/backup/freeze-order.js';
import type { OriginPlace } from '../../../lib/placement.js';
import { dev, type FakeMachine, fakeHost } from '../../helpers/fake-host.js';

const GiB = 2 ** 30;

/** The origin dm-N of the kernel driver, over a lower device. */
function kernel(n: number, lowerDev: number, size = GiB): OriginPlace {
  return { size, dev: dev(253, n), lowerDev, lowerInode: 0, lowerFsDev: 0 };
}

/** An image on the file system of this number. */
function image(lowerFsDev: number, size = GiB): OriginPlace {
  return { size, dev: 0, lowerDev: 0, lowerInode: 77, lowerFsDev };
}

/** dm-1, with a file system at /a, is over sdb; loop0 is over a file there, dm-2 over loop0, dm-3 over sdc. */
const machine: Partial<FakeMachine> = {
  mounts: { '/': { device: '8:1' }, '/a': { device: '253:1' }, '/b': { device: '253:2' } },
  devices: {
    '8:16': { name: 'sdb' },
    '8:32': { name: 'sdc' },
    '7:0': { name: 'loop0', backingFile: '/a/file' },
    '43:0': { name: 'nbd0', size: GiB },
    '253:1': { name: 'dm-1', below: ['8:16'] },
    '253:2': { name: 'dm-2', below: ['7:0'] },
    '253:3': { name: 'dm-3', below: ['8:32'] },
    '253:4': { name: 'dm-4', below: ['253:2'] },
    '253:5': { name: 'dm-5', below: ['43:0'] },
  },
  files: { '/a/file': { fileSystem: '253:1', inode: 12 } },
};
const a = kernel(1, dev(8, 16), 2 * GiB);
const b = kernel(2, dev(7, 0));
const beside = kernel(3, dev(8, 32));

const order = (...places: OriginPlace[]) => freezeOrder(places, (place) => place, fakeHost(machine));

/** Each of their orders. */
function* permutations(places: OriginPlace[]): Generator<OriginPlace[]> {
  if (places.length === 0) yield [];
  for (const [i, first] of places.entries()) {
    for (const rest of permutations(places.toSpliced(i, 1))) yield [first, ...rest];
  }
}

describe('the order in which file systems are frozen', () => {
  it('has an origin on a file of another one before it, in whatever order they are named', async () => {
    assert.deepEqual(await order(a, b), [b, a]);
    assert.deepEqual(await order(b, a), [b, a]);
  });

  it('has a stack from its top to its bottom', async () => {
    const top = kernel(4, dev(253, 2));
    for (const places of permutations([a, b, beside, top])) {
      const sorted = await order(...places);
      assert.deepEqual(
        sorted.filter((place) => place !== beside),
        [top, b, a],
      );
      assert.ok(sorted.includes(beside));
    }
  });

  it('follows an origin of a program, whose image lies on another one', async () => {
    const served = image(dev(253, 1));
    const client = kernel(5, dev(43, 0));
    for (const places of permutations([a, served, client])) {
      assert.deepEqual(await order(...places), [client, served, a]);
    }
  });

  it('is the given one where none stands on another, or each seems to', async () => {
    assert.deepEqual(await order(beside, a), [beside, a]);
    assert.deepEqual(await order(a, beside), [a, beside]);
    const [one, other] = [kernel(5, dev(43, 0)), kernel(6, dev(43, 0))];
    assert.deepEqual(await order(one, other), [one, other]);
    assert.deepEqual(await order(other, one), [other, one]);
  });

  it('asks nothing of the machine unless the kernel driver has two of them', async () => {
    const nobody = new Proxy(fakeHost({}), { get: () => assert.fail('the machine was asked') });
    const places = [a, image(dev(253, 1))];
    assert.deepEqual(await freezeOrder(places, (place) => place, nobody), places);
  });

  it('asks for each fact once', async () => {
    const asked: string[] = [];
    const host = fakeHost(machine);
    const counting = {
      ...host,
      async blockDevice(number: string) {
        asked.push(number);
        return host.blockDevice(number);
      },
    };
    await freezeOrder([a, b, beside, kernel(4, dev(253, 2))], (place) => place, counting);
    assert.deepEqual([...asked].sort(), [...new Set(asked)].sort());
  });
});
