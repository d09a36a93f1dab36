import assert from 'node:assert/strict';
import { refusalOf } from '../../../lib/attach/targets.js';

describe('which targets may be attached', () => {
  it('takes those that only map', () => {
    for (const type of [
      'linear',
      'striped',
      'unstriped',
      'crypt',
      'thin',
      'delay',
      'flakey',
      'error',
      'zero',
    ]) {
      assert.equal(refusalOf(type), undefined, type);
    }
  });

  it('refuses those that remember, and says why and what instead', () => {
    for (const type of [
      ...['raid', 'mirror', 'cache', 'writecache', 'writeboost', 'clone', 'era', 'integrity', 'vdo'],
      ...['snapshot', 'snapshot-merge', 'log-writes', 'dust'],
    ]) {
      assert.match(refusalOf(type) ?? '', new RegExp(`"${type}": .+; .+`), type);
    }
    assert.match(refusalOf('raid')!, /in step.*snapbak attach --create NAME/);
    assert.match(refusalOf('thin-pool')!, /attach the thin volumes/);
    assert.match(refusalOf('snapshot-origin')!, /NAME-real/);
    assert.match(refusalOf('multipath')!, /LVM volume or the partition on it/);
  });

  it('refuses what nobody has looked at', () => {
    for (const type of ['brand-new', 'constructor', '']) {
      assert.match(refusalOf(type)!, /nobody has looked yet/, type);
    }
  });
});
