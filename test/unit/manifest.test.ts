import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  completeDraft,
  type Manifest,
  parseManifest,
  readManifest,
  writeManifest,
} from '../../lib/manifest.js';
import { diskManifestOf, draft, groupManifestOf, manifestOf } from '../helpers/backup-folder.js';
import { Cleanup } from '../helpers/cleanup.js';
import { must } from '../helpers/programs.js';

const SIZE = 10 * 4096 + 100;

describe('a manifest', () => {
  const cleanup = new Cleanup();
  let folder: string;
  beforeEach(() => {
    folder = cleanup.folder('manifest');
  });
  after(() => cleanup.run());

  it('is read as it was written, private to its user, and nothing else is left', async () => {
    const manifest = manifestOf(SIZE, {
      state: 'complete-with-invalid-blocks',
      blocks: [
        [0, 8192],
        [3 * 4096, 4096],
        [10 * 4096, 100],
      ],
      invalidBlocks: [
        [4096, 4096],
        [10 * 4096, 100],
      ],
      error: { code: 'ERR_SNAPBAK_IO', message: 'two lines\nof text' },
    });
    await writeManifest(folder, manifest);
    assert.deepEqual(await readManifest(folder), manifest);
    assert.deepEqual(readdirSync(folder), ['manifest.json']);
    assert.equal(statSync(join(folder, 'manifest.json')).mode & 0o777, 0o600);
  });

  it('has its extents on one line, however many there are', async () => {
    const blocks = Array.from({ length: 1000 }, (_, i): [number, number] => [8192 * i, 4096]);
    await writeManifest(folder, manifestOf(8192 * 1000, { blocks }));
    const text = readFileSync(join(folder, 'manifest.json'), 'utf8');
    assert.ok(text.split('\n').length < 50, `${text.split('\n').length} lines`);
    assert.deepEqual(JSON.parse(text).blocks, blocks);
  });

  it('with a million extents is read in a second or two', async () => {
    const blocks = Array.from({ length: 1_000_000 }, (_, i): [number, number] => [8192 * i, 4096]);
    await writeManifest(folder, manifestOf(8192 * 1_000_000, { blocks }));
    const began = performance.now();
    assert.equal((await readManifest(folder)).blocks.length, 1_000_000);
    assert.ok(performance.now() - began < 5000, 'the extents are not checked one by one by the schema');
  });

  it('replaces the one that is there', async () => {
    await writeManifest(folder, manifestOf(SIZE, { state: 'broken' }));
    await writeManifest(folder, manifestOf(SIZE));
    assert.equal((await readManifest(folder)).state, 'complete');
  });

  it('is not written if it is not well formed, and the old one stays', async () => {
    await writeManifest(folder, manifestOf(SIZE));
    await assert.rejects(writeManifest(folder, manifestOf(SIZE, { blocks: [[1, 4096]] })), {
      code: 'ERR_SNAPBAK_MANIFEST',
    });
    assert.equal((await readManifest(folder)).blocks[0]?.[0], 0);
    assert.deepEqual(readdirSync(folder), ['manifest.json']);
  });

  it('that cannot be written is an error with path and errno, and leaves nothing', async () => {
    const missing = join(folder, 'missing');
    await assert.rejects(writeManifest(missing, manifestOf(SIZE)), {
      code: 'ERR_SNAPBAK_TARGET',
      errno: -2,
      path: join(missing, 'manifest.json'),
      message: /cannot write .*manifest\.json: no such file or directory \(ENOENT\)/,
    });
    mkdirSync(join(folder, 'manifest.json')); // a rename onto a directory fails
    await assert.rejects(writeManifest(folder, manifestOf(SIZE)), {
      code: 'ERR_SNAPBAK_TARGET',
      message: /EISDIR/,
    });
    assert.deepEqual(readdirSync(folder), ['manifest.json']);
  });

  it('leaves out statistics that are no number, which must not spoil a good backup', () => {
    const statistics = { rate: Number.NaN, seconds: 0, speed: Number.POSITIVE_INFINITY };
    const { image, checksums } = manifestOf(SIZE);
    assert.deepEqual(completeDraft(draft(SIZE, 4096, { statistics }), image, checksums).statistics, {
      seconds: 0,
    });
  });

  it('that is missing is an error that says so', async () => {
    const message = /there is no manifest\.json in .*: it holds no backup, or one that was never finished/;
    await assert.rejects(readManifest(folder), { code: 'ERR_SNAPBAK_MANIFEST', message });
    await assert.rejects(readManifest(join(folder, 'missing')), { code: 'ERR_SNAPBAK_MANIFEST', message });
    writeFileSync(join(folder, 'file'), '');
    await assert.rejects(readManifest(join(folder, 'file')), { code: 'ERR_SNAPBAK_MANIFEST', message });
    await assert.rejects(readManifest(5 as unknown as string), {
      name: 'TypeError',
      message: /directory must be a string/,
    });
  });

  it('is never read through a symbolic link, a pipe or a directory', async () => {
    const path = join(folder, 'manifest.json');
    await writeManifest(folder, manifestOf(SIZE));
    const other = cleanup.folder('manifest');
    symlinkSync(path, join(other, 'manifest.json'));
    await assert.rejects(readManifest(other), {
      code: 'ERR_SNAPBAK_MANIFEST',
      message: /is a symbolic link/,
    });
    const pipe = cleanup.folder('manifest');
    await must('mkfifo', [join(pipe, 'manifest.json')]);
    await assert.rejects(readManifest(pipe), { code: 'ERR_SNAPBAK_MANIFEST', message: /is no regular file/ });
    const directory = cleanup.folder('manifest');
    mkdirSync(join(directory, 'manifest.json'));
    await assert.rejects(readManifest(directory), {
      code: 'ERR_SNAPBAK_MANIFEST',
      message: /is no regular file/,
    });
  });

  it('that would be too long to be read is not written, and the old one stays', async () => {
    const blocks = Array.from({ length: 1000 }, (_, i): [number, number] => [8192 * i, 4096]);
    const long = manifestOf(8192 * 1000, { blocks });
    await writeManifest(folder, long);
    const { size } = statSync(join(folder, 'manifest.json'));
    await writeManifest(folder, long, folder, size);
    const broken = { ...long, state: 'broken' } as const;
    for (const manifest of [long, groupManifestOf(diskManifestOf('a', 8192 * 1000, { blocks }))]) {
      await assert.rejects(writeManifest(folder, manifest, folder, 4096), {
        code: 'ERR_SNAPBAK_MANIFEST',
        path: join(folder, 'manifest.json'),
        message: /would be larger than 4 KiB, because of its many extents, and could not be read again/,
      });
    }
    await assert.rejects(writeManifest(folder, broken, folder, size - 3), { code: 'ERR_SNAPBAK_MANIFEST' });
    assert.deepEqual(await readManifest(folder), long);
    assert.deepEqual(readdirSync(folder), ['manifest.json']);
  });

  it('of an absurd size is not read', async () => {
    const path = join(folder, 'manifest.json');
    writeFileSync(path, '');
    truncateSync(path, 2 ** 40);
    await assert.rejects(readManifest(folder), {
      code: 'ERR_SNAPBAK_MANIFEST',
      message: /is larger than 256 MiB/,
    });
  });

  it('that was cut off anywhere is an error', async () => {
    await writeManifest(folder, manifestOf(SIZE));
    const path = join(folder, 'manifest.json');
    const text = readFileSync(path, 'utf8').trimEnd();
    for (let length = 0; length < text.length; length += 7) {
      writeFileSync(path, text.slice(0, length));
      const message = length === 0 ? /is empty/ : /is damaged or was cut off/;
      await assert.rejects(
        readManifest(folder),
        { code: 'ERR_SNAPBAK_MANIFEST', message, path },
        `after ${length} bytes`,
      );
    }
    chmodSync(path, 0o600);
  });

  it('of another program, or in another format, is an error that says which', async () => {
    const error = (text: string, message: RegExp) =>
      assert.rejects(() => parseManifest(text, 'm'), { code: 'ERR_SNAPBAK_MANIFEST', message, path: 'm' });
    for (const text of [
      'null',
      '1',
      '"x"',
      '[]',
      '{}',
      '{"formatVersion":1}',
      '{"tool":null}',
      '{"tool":{"name":"other"}}',
    ]) {
      await error(text, /^m was not made by Snapbak$/);
    }
    const newer = JSON.stringify({
      formatVersion: 3,
      tool: { name: 'snapbak', version: '9.0.0' },
      surprise: true,
    });
    await error(newer, /was made by a newer Snapbak \(format 3, this version reads 2\); upgrade/);
    await error('{"formatVersion":"1","tool":{"name":"snapbak","version":"1"}}', /field formatVersion/);
    await error('{"formatVersion":0,"tool":{"name":"snapbak","version":"1"}}', /field formatVersion/);
  });

  it('with a field of the wrong shape is an error that names the field', async () => {
    const wrong: [object, string][] = [
      [{ id: 'x' }, 'id'],
      [{ state: 'good' }, 'state'],
      [{ startedAt: 'yesterday' }, 'startedAt'],
      [{ createdAt: undefined }, 'createdAt'],
      [{ origin: { driver: 'user', id: 'x' } }, 'origin.size'],
      [{ origin: { driver: 'magic', id: 'x', size: SIZE } }, 'origin.driver'],
      [{ origin: { driver: 'user', id: 'x', size: 5 } }, 'origin.size'],
      [{ size: -1 }, 'size'],
      [{ size: 1.5 }, 'size'],
      [{ size: '5' }, 'size'],
      [{ blockSize: 5000 }, 'blockSize'],
      [{ blockSize: 2048 }, 'blockSize'],
      [{ blockSize: 2 ** 21 }, 'blockSize'],
      [{ image: { kind: 'tape' } }, 'image.kind'],
      [{ image: { kind: 'device', path: 'sda', offset: 0 } }, 'image.path'],
      [{ image: { kind: 'device', path: '/dev/sda', offset: 4096 } }, 'image.offset'],
      [{ checksums: { name: 'checksums', algorithm: 'md5', sha256: '0'.repeat(64) } }, 'checksums.algorithm'],
      [{ checksums: { name: 'checksums', algorithm: 'crc32c', sha256: 'abc' } }, 'checksums.sha256'],
      [{ checksums: { name: 'data.img', algorithm: 'crc32c', sha256: '0'.repeat(64) } }, 'checksums.name'],
      [{ blocks: 'all' }, 'blocks'],
      [{ invalidBlocks: {} }, 'invalidBlocks'],
      [{ statistics: { bytes: 'many' } }, 'statistics.bytes'],
      [{ error: 'ENOSPC' }, 'error'],
    ];
    for (const [change, field] of wrong) {
      const text = JSON.stringify({ ...manifestOf(SIZE), ...change });
      const message = new RegExp(`^m is not well formed: field ${field.replace('.', '\\.')}: `);
      await assert.rejects(
        () => parseManifest(text, 'm'),
        { code: 'ERR_SNAPBAK_MANIFEST', message },
        JSON.stringify(change),
      );
    }
  });

  it('never names a file outside of its directory', async () => {
    for (const name of [
      '../data.img',
      '/etc/passwd',
      'a/b',
      '',
      '.',
      '..',
      '.hidden',
      'a\0b',
      'manifest.json',
      'x'.repeat(200),
    ]) {
      const image = JSON.stringify(manifestOf(SIZE, { image: { kind: 'file', name } }));
      await assert.rejects(
        () => parseManifest(image, 'm'),
        { code: 'ERR_SNAPBAK_MANIFEST', message: /field image\.name: must/ },
        name,
      );
      const { checksums } = manifestOf(SIZE);
      const sums = JSON.stringify(manifestOf(SIZE, { checksums: { ...checksums, name } }));
      await assert.rejects(
        () => parseManifest(sums, 'm'),
        { code: 'ERR_SNAPBAK_MANIFEST', message: /field checksums\.name: must/ },
        name,
      );
    }
  });

  it('lists extents that are ascending, disjoint, whole blocks and inside the device', async () => {
    const wrong: [unknown[], string, RegExp][] = [
      [[[0, 4096, 1]], '[0]', /must be \[offset, length\] in bytes/],
      [[null], '[0]', /must be \[offset, length\]/],
      [[[0, '4096']], '[0]', /must be \[offset, length\]/],
      [[[0, 0]], '[0]', /length above 0/],
      [[[-4096, 4096]], '[0]', /offset from 0/],
      [[[100, 4096]], '[0]', /must be whole blocks of 4096 bytes/],
      [[[0, 100]], '[0]', /must be whole blocks/],
      [[[10 * 4096, 4096]], '[0]', /must end inside the device of 41060 bytes/],
      [[[0, 2 ** 53 - 1]], '[0]', /must end inside the device/],
      [
        [
          [4096, 4096],
          [0, 4096],
        ],
        '[1]',
        /must begin behind the extent before it/,
      ],
      [
        [
          [0, 8192],
          [4096, 4096],
        ],
        '[1]',
        /must begin behind/,
      ],
    ];
    for (const [blocks, where, why] of wrong) {
      const text = JSON.stringify(manifestOf(SIZE, { blocks: blocks as Manifest['blocks'] }));
      const error = await assert.rejects(
        () => parseManifest(text, 'm'),
        (thrown: Error) => {
          assert.ok(thrown.message.includes(`field blocks${where}: `), thrown.message);
          assert.match(thrown.message, why);
          return true;
        },
      );
      assert.equal(error, undefined);
    }
  });

  it('has invalid blocks inside the block list, if and only if its state says so', async () => {
    const error = (changes: Partial<Manifest>, message: RegExp) =>
      assert.rejects(() => parseManifest(JSON.stringify(manifestOf(SIZE, changes)), 'm'), {
        code: 'ERR_SNAPBAK_MANIFEST',
        message,
      });
    const state = 'complete-with-invalid-blocks';
    const blocks: Manifest['blocks'] = [
      [0, 4096],
      [4096, 4096],
      [3 * 4096, 4096],
    ];
    await error(
      { blocks, state, invalidBlocks: [[2 * 4096, 4096]] },
      /field invalidBlocks\[0\]: must lie inside blocks/,
    );
    await error(
      {
        blocks,
        state,
        invalidBlocks: [
          [0, 4096],
          [3 * 4096, 8192],
        ],
      },
      /field invalidBlocks\[1\]: must lie inside blocks/,
    );
    await error(
      { blocks, invalidBlocks: [[0, 4096]] },
      /field invalidBlocks: must be empty if state is complete/,
    );
    await error(
      { blocks, state },
      /field invalidBlocks: must not be empty if state is complete-with-invalid-blocks/,
    );
    // one invalid extent over two listed ones that touch is inside
    await parseManifest(JSON.stringify(manifestOf(SIZE, { blocks, state, invalidBlocks: [[0, 8192]] })), 'm');
  });

  it('keeps to its format though a later version of it adds fields', async () => {
    const text = JSON.stringify({ ...manifestOf(SIZE), comment: 'new' });
    assert.deepEqual(Object.keys(await parseManifest(text, 'm')).includes('comment'), false);
  });
});
