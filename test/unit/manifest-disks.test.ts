import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type DiskManifest,
  type GroupManifest,
  groupManifest,
  parseManifest,
  readAnyManifest,
  readManifest,
  writeManifest,
} from '../../lib/manifest.js';
import { diskManifestOf, draft, groupManifestOf, manifestOf } from '../helpers/backup-folder.js';
import { Cleanup } from '../helpers/cleanup.js';

const SIZE = 1_000_000;
const disk = (name: string, changes: Partial<DiskManifest> = {}) => diskManifestOf(name, SIZE, changes);
const broken = { state: 'broken', error: { code: 'ERR_SNAPBAK_BROKEN', message: 'why' } } as const;
const invalid = {
  state: 'complete-with-invalid-blocks',
  invalidBlocks: [[0, 4096]],
} as Partial<DiskManifest>;

describe('a manifest of several disks', () => {
  const cleanup = new Cleanup();
  let folder: string;
  beforeEach(() => {
    folder = cleanup.folder('manifest');
  });
  after(() => cleanup.run());

  it('is read as it was written', async () => {
    const manifest = groupManifestOf(disk('a'), disk('b', invalid), disk('c', broken));
    await writeManifest(folder, manifest);
    assert.deepEqual(await readAnyManifest(folder), manifest);
    const text = readFileSync(join(folder, 'manifest.json'), 'utf8');
    assert.deepEqual(JSON.parse(text), manifest);
    assert.equal(manifest.formatVersion, 2);
    assert.match(text, /\n {4}"blocks": \[\[0,1000000\]\],\n/, 'a line a field, and extents on one');
  });

  it('has one disk read as a backup of its own', async () => {
    const manifest = groupManifestOf(disk('a'), disk('b', broken));
    await writeManifest(folder, manifest);
    const { name: _, ...fields } = manifest.disks[1]!;
    const { id, tool, createdAt, startedAt, finishedAt } = manifest;
    assert.deepEqual(await readManifest(folder, { disk: 'b' }), {
      ...{ formatVersion: 1, id, tool, createdAt, startedAt, finishedAt },
      ...fields,
    });
    assert.equal((await readManifest(folder, { disk: 'a' })).state, 'complete');
  });

  it('has no disk taken for another, and none for the only one', async () => {
    await writeManifest(folder, groupManifestOf(disk('a'), disk('b')));
    await assert.rejects(readManifest(folder), {
      name: 'RangeError',
      message: /disk must be given.*: a, b$/,
    });
    await assert.rejects(readManifest(folder, { disk: 'c' }), {
      name: 'RangeError',
      message: /one of a, b, not "c"/,
    });
    await writeManifest(folder, manifestOf(SIZE));
    await assert.rejects(readManifest(folder, { disk: 'a' }), {
      name: 'RangeError',
      message: /is of one origin/,
    });
  });

  it('is as good as the worst of its disks', () => {
    const state = (...disks: DiskManifest[]) => groupManifest(draft(0), disks).state;
    assert.equal(state(disk('a'), disk('b')), 'complete');
    assert.equal(state(disk('a'), disk('b', invalid)), 'complete-with-invalid-blocks');
    assert.equal(state(disk('a', invalid), disk('b', broken)), 'broken');
    const aborted = { ...draft(0), error: { code: 'ERR_SNAPBAK_ABORTED', message: 'enough' } };
    assert.equal(groupManifest(aborted, [disk('a')]).state, 'broken');
  });

  const good = () => groupManifestOf(disk('a'), disk('b'));
  const changed = (change: (manifest: GroupManifest) => void) => {
    const manifest = structuredClone(good());
    change(manifest);
    return JSON.stringify(manifest);
  };
  const at = (i: number, changes: object) => (manifest: GroupManifest) => {
    Object.assign(manifest.disks[i]!, changes);
  };
  const file = (name: string) => ({ kind: 'file', name });
  const sums = (name: string) => ({ name, algorithm: 'crc32c', sha256: '0'.repeat(64) });
  const bad: [string, (manifest: GroupManifest) => void, RegExp][] = [
    ['without disks', (m) => Object.assign(m, { disks: [] }), /field disks/],
    ['that is no list', (m) => Object.assign(m, { disks: {} }), /field disks/],
    ['of too many disks', (m) => Object.assign(m, { disks: Array(1001).fill(m.disks[0]) }), /field disks/],
    ['with a disk twice', at(1, { name: 'a' }), /field disks\[1\]\.name: must be unique/],
    ['with a disk without a name', at(0, { name: '' }), /field disks\[0\]\.name/],
    ['with a disk whose name leads out', at(0, { name: '../a' }), /field disks\[0\]\.name/],
    ['with a disk whose name moves the cursor', at(0, { name: 'a\u001b[2J' }), /field disks\[0\]\.name/],
    ['with an image outside', at(1, { image: file('../../etc/passwd') }), /field disks\[1\]\.image\.name/],
    ['with the manifest as image', at(1, { image: file('manifest.json') }), /must not be the manifest/],
    [
      'with one image for two disks',
      at(1, { image: file('a.img') }),
      /disks\[1\]\.image\.name: must be the name of no/,
    ],
    ["with another's checksums", at(1, { checksums: sums('a.checksums') }), /disks\[1\]\.checksums\.name/],
    ["with another's image as checksums", at(1, { checksums: sums('a.img') }), /disks\[1\]\.checksums\.name/],
    [
      'with an image on a device',
      at(0, { image: { kind: 'device', path: '/dev/sda', offset: 0 } }),
      /must be file/,
    ],
    [
      'with blocks past the end of a disk',
      at(1, { blocks: [[0, SIZE + 4096]] }),
      /field disks\[1\]\.blocks\[0\]/,
    ],
    ['with a size that differs', at(1, { size: SIZE + 1 }), /field disks\[1\]/],
    ['better than a disk', at(1, broken), /field state: must be broken/],
    [
      'better than a disk with invalid blocks',
      at(1, invalid),
      /field state: must be complete-with-invalid-blocks/,
    ],
    [
      'worse than its disks',
      (m) => Object.assign(m, { state: 'complete-with-invalid-blocks' }),
      /field state: must be complete/,
    ],
  ];
  for (const [what, change, message] of bad) {
    it(`is not one ${what}`, async () => {
      await parseManifest(JSON.stringify(good()), 'm');
      await assert.rejects(parseManifest(changed(change), 'm'), { code: 'ERR_SNAPBAK_MANIFEST', message });
    });
  }

  it('may be broken though each disk is good: it was given up', async () => {
    const text = changed((m) => Object.assign(m, { state: 'broken' }));
    assert.equal((await parseManifest(text, 'm')).state, 'broken');
  });
});
