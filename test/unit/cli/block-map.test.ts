import assert from 'node:assert/strict';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { BlockMap, MAP_COLUMNS, markZeroes } from '../../../lib/cli/block-map.js';
import type { Manifest } from '../../../lib/manifest.js';

type Facts = Pick<Manifest, 'size' | 'blocks' | 'invalidBlocks'>;

describe('the map of a backup', () => {
  it('shows data, parts, zeroes, invalid blocks and what is not listed, each in its place', () => {
    const cell = 100;
    const facts: Facts = {
      size: MAP_COLUMNS * cell,
      blocks: [
        [0, 2 * cell],
        [3 * cell, cell / 2],
        [5 * cell, 3 * cell],
      ],
      invalidBlocks: [[cell, 10]],
    };
    const map = new BlockMap(facts);
    map.addZero(6 * cell, cell);
    map.addZero(7 * cell, 5);
    assert.deepEqual(map.rows(), [`█!·▒·█░▒${'·'.repeat(56)}`]);
    assert.equal(map.zeroBytes, cell + 5);
  });

  it('grows by rows with the device, up to eight', () => {
    const rows = (size: number) => new BlockMap({ size, blocks: [[0, size]], invalidBlocks: [] }).rows();
    assert.deepEqual(rows(5), ['█████']);
    assert.equal(rows(2 ** 30).length, 1);
    assert.equal(rows(2 ** 46).length, 8);
    assert.ok(rows(2 ** 46 - 7).every((row) => row === '█'.repeat(MAP_COLUMNS)));
    assert.deepEqual(rows(0), ['·']);
  });

  it('counts every listed byte once, whatever the sizes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), fc.array(fc.nat(10_000)), (size, cuts) => {
        const edges = [...new Set(cuts.map((cut) => cut % size))].sort((a, b) => a - b);
        const blocks: [number, number][] = [];
        for (let i = 0; i + 1 < edges.length; i += 2) blocks.push([edges[i]!, edges[i + 1]! - edges[i]!]);
        const map = new BlockMap({ size, blocks, invalidBlocks: [] });
        const listed = map.cells.reduce((sum, cell) => sum + cell.listed, 0);
        assert.equal(
          listed,
          blocks.reduce((sum, [, length]) => sum + length, 0),
        );
        assert.equal(
          map.cells.reduce((sum, cell) => sum + cell.bytes, 0),
          size,
        );
        assert.ok(map.cells.every((cell) => cell.listed <= cell.bytes));
      }),
    );
  });

  it('finds zero blocks by their checksums, the short last block too', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'snapbak-map-'));
    const file = await open(join(folder, 'checksums'), 'w+');
    try {
      const crc = (data: Uint8Array) => data.length + 7; // of zeroes
      const sums = [4096 + 7, 1, 4096 + 7, 4096 + 7, 100 + 7];
      await file.write(Buffer.from(Uint32Array.from(sums).buffer));
      const manifest = {
        size: 4 * 4096 + 100,
        blockSize: 4096,
        blocks: [
          [0, 2 * 4096],
          [3 * 4096, 4096 + 100],
        ],
        invalidBlocks: [],
      } as unknown as Manifest;
      const map = new BlockMap(manifest);
      assert.equal(await markZeroes(map, manifest, file, crc), true);
      assert.equal(map.zeroBytes, 4096 + 4096 + 100);
      const cut = new BlockMap(manifest);
      await file.truncate(6);
      assert.equal(await markZeroes(cut, manifest, file, crc), true);
      assert.equal(cut.zeroBytes, 4096);
      const huge = { ...manifest, size: 2 ** 50, blocks: [] } as unknown as Manifest;
      assert.equal(await markZeroes(new BlockMap(huge), huge, file, crc), false);
    } finally {
      await file.close();
      await rm(folder, { recursive: true });
    }
  });
});
