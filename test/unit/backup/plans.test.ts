import assert from 'node:assert/strict';
import type { BackupOptions } from '../../../lib/backup.js';
import { checkOptions } from '../../../lib/backup/options.js';
import { nameOf } from '../../../lib/backup/plans.js';
import { BlockList } from '../../../lib/blocks/block-list.js';
import { memoryContainer } from '../../../lib/container/memory-container.js';
import { customTarget } from '../../../lib/target/custom-target.js';
import { FakeSession, FakeTarget, fakeOrigin } from '../../helpers/fake-session.js';

const origin = (spec: string) => fakeOrigin(new FakeSession(), spec);

function check(options: Partial<BackupOptions>) {
  return checkOptions({ target: new FakeTarget(), ...options });
}

const namesOf = (...origins: NonNullable<BackupOptions['origins']>) =>
  check({ origins }).disks.map(({ name }) => name);

describe('the origins of a backup', () => {
  it('are one, which needs no name', () => {
    const one = origin('/dev/mapper/x');
    const blocks = BlockList.all(4096);
    const container = memoryContainer(4096);
    const checked = check({ origin: one, blocks, container });
    assert.equal(checked.several, false);
    assert.deepEqual(checked.disks, [{ name: '', origin: one, blocks, container, clone: undefined }]);
  });

  it('are several, each with its own blocks and container', () => {
    const [a, b] = [origin('/dev/mapper/vg-data'), origin('/dev/mapper/vg-log')];
    const container = memoryContainer(4096);
    const blocks = BlockList.all(4096);
    const { disks, several } = check({
      origins: [a, { origin: b, name: 'log', blocks, container }],
      blocks: 'used',
    });
    assert.equal(several, true);
    assert.deepEqual(disks, [
      { name: 'vg-data', origin: a, blocks: 'used', container: undefined },
      { name: 'log', origin: b, blocks, container },
    ]);
  });

  it('are called after the last part of their paths', () => {
    for (const [spec, name] of [
      ['/dev/mapper/vg-data', 'vg-data'],
      ['/dev/vg/data/', 'data'],
      ['unix:/run/vm1.control', 'vm1'],
      ['unix:vm1.sock', 'vm1'],
      ['embedded:disk.img', 'disk'],
      ['embedded:/images/.hidden', 'hidden'],
      ['embedded:/images/a disk (1)', 'a-disk--1-'],
      ['embedded:/images/платa', 'a'],
      ['embedded:/images/диск', 'disk'],
      [`embedded:/images/${'x'.repeat(300)}`, 'x'.repeat(70)],
    ] as const) {
      assert.equal(nameOf(spec), name, spec);
    }
  });

  it('have names of their own, whatever the others are called', () => {
    const at = (folder: string) => origin(`unix:/run/${folder}/control.sock`);
    assert.deepEqual(namesOf(at('vm1'), at('vm2'), at('vm3')), ['control', 'control-2', 'control-3']);
    const named = { origin: at('vm4'), name: 'control' };
    assert.deepEqual(namesOf(at('vm1'), named, origin('/x/control-2'), at('vm5')), [
      'control-2',
      'control',
      'control-2-2',
      'control-3',
    ]);
  });

  const some = () => origin('/dev/mapper/x');
  const same = some();
  const bad: [string, Record<string, unknown>, RegExp, string][] = [
    ['both one and several', { origin: some(), origins: [some()] }, /must not both be given/, 'TypeError'],
    ['none of them', {}, /options\.origin must be an origin/, 'TypeError'],
    ['no list', { origins: some() }, /options\.origins must be a list/, 'TypeError'],
    ['an empty list', { origins: [] }, /options\.origins must not be empty/, 'RangeError'],
    ['too many', { origins: Array.from({ length: 65 }, some) }, /at most 64, not 65/, 'RangeError'],
    [
      'a path',
      { origins: ['/dev/x'] },
      /options\.origins\[0\] must be a object, not "\/dev\/x"/,
      'TypeError',
    ],
    [
      'a plan without an origin',
      { origins: [{ name: 'a' }] },
      /origins\[0\]\.origin must be an origin/,
      'TypeError',
    ],
    [
      'a plan with more',
      { origins: [{ origin: some(), rate: 1 }] },
      /origins\[0\]\.rate is not an option/,
      'TypeError',
    ],
    ['the same twice', { origins: [same, same] }, /options\.origins\[1\] is there twice/, 'RangeError'],
    [
      'a name that leads out',
      { origins: [{ origin: some(), name: '../x' }] },
      /plain file name/,
      'RangeError',
    ],
    ['a name that hides', { origins: [{ origin: some(), name: '.x' }] }, /plain file name/, 'RangeError'],
    [
      'a name that is too long',
      { origins: [{ origin: some(), name: 'x'.repeat(81) }] },
      /at most 80/,
      'RangeError',
    ],
    [
      'a name that is none',
      { origins: [{ origin: some(), name: 7 }] },
      /\.name must be a string/,
      'TypeError',
    ],
    [
      'a name twice',
      { origins: ['a', 'a'].map((name) => ({ origin: some(), name })) },
      /origins\[1\]\.name must be unique/,
      'RangeError',
    ],
    [
      'one block list for all',
      { origins: [some(), some()], blocks: BlockList.all(4096) },
      /options\.blocks must be used or all, or part of/,
      'TypeError',
    ],
    [
      'one container for all',
      { origins: [some(), some()], container: memoryContainer(4096) },
      /options\.container must be part of/,
      'TypeError',
    ],
    ['an export', { origins: [some(), some()], export: '/run/x' }, /options\.export must not/, 'TypeError'],
    [
      'a target for one',
      { origins: [some()], target: customTarget({ write() {}, flush() {}, close() {} }) },
      /options\.target must be made by directoryTarget/,
      'TypeError',
    ],
    [
      'a bad block list',
      { origins: [{ origin: some(), blocks: [] }] },
      /origins\[0\]\.blocks must be/,
      'TypeError',
    ],
    [
      'a bad container',
      { origins: [{ origin: some(), container: 7 }] },
      /origins\[0\]\.container/,
      'TypeError',
    ],
  ];
  for (const [what, options, message, name] of bad) {
    it(`are not ${what}`, () => {
      assert.throws(() => check(options as Partial<BackupOptions>), { name, message });
    });
  }
});
