import assert from 'node:assert/strict';
import fc from 'fast-check';
import { usedOfSwap } from '../../../../lib/blocks/used/swap.js';

function header(pageSize: number, lastPage: number, bigEndian = false): Buffer {
  const head = Buffer.alloc(65536);
  head.write('SWAPSPACE2', pageSize - 10, 'latin1');
  if (bigEndian) {
    head.writeUInt32BE(1, 1024);
    head.writeUInt32BE(lastPage, 1028);
  } else {
    head.writeUInt32LE(1, 1024);
    head.writeUInt32LE(lastPage, 1028);
  }
  return head;
}

describe('swap', () => {
  it('keeps the header alone', () => {
    assert.deepEqual(usedOfSwap(header(4096, 255), 2 ** 20), { used: [{ offset: 0, length: 65536 }] });
  });

  it('keeps what is behind its last page', () => {
    const used = [
      { offset: 0, length: 65536 },
      { offset: 64 * 65536, length: 5 },
    ];
    assert.deepEqual(usedOfSwap(header(65536, 63, true), 64 * 65536 + 5), { used });
  });

  it('is not believed where the header does not fit', () => {
    const damaged = { doubt: 'its header is damaged' };
    assert.deepEqual(usedOfSwap(header(4096, 256), 2 ** 20), damaged);
    assert.deepEqual(usedOfSwap(header(4096, 0), 2 ** 20), damaged);
    const version = header(4096, 255);
    version.writeUInt32LE(2, 1024);
    assert.deepEqual(usedOfSwap(version, 2 ** 20), damaged);
    assert.ok('doubt' in usedOfSwap(Buffer.alloc(65536), 2 ** 20));
  });

  it('is never more than the device, and always its header', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.nat(2 ** 21), (lastPage, more) => {
        const head = header(4096, lastPage);
        const length = 65536 + more;
        const verdict = usedOfSwap(head, length);
        if ('doubt' in verdict) return;
        assert.deepEqual(verdict.used[0], { offset: 0, length: 65536 });
        for (const extent of verdict.used) assert.ok(extent.offset + extent.length <= length);
      }),
    );
  });
});
