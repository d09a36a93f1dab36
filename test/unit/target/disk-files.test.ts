import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { readAnyManifest } from '../../../lib/manifest.js';
import { directoryTarget } from '../../../lib/target/directory-target.js';
import { draft } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { fakeInfo } from '../../helpers/fake-session.js';

const SIZES = { a: 10 * 4096 + 5, b: 3 * 4096 };

describe('a directory for several disks', () => {
  const cleanup = new Cleanup();
  let path: string;
  beforeEach(() => {
    path = join(cleanup.folder('disk-files'), 'backup');
  });
  after(() => cleanup.run());

  const disks = Object.entries(SIZES).map(([name, size]) => ({
    name,
    context: { size, blockSize: 4096, origin: fakeInfo(size) },
  }));
  const prepare = () => directoryTarget(path).prepareGroup!(disks);

  it('has an image and checksums of each, for their owner alone', async () => {
    const group = await prepare();
    assert.deepEqual(readdirSync(path).sort(), ['a.checksums', 'a.img', 'b.checksums', 'b.img']);
    for (const name of readdirSync(path)) assert.equal(statSync(join(path, name)).mode & 0o777, 0o600);
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.equal(statSync(join(path, 'a.img')).size, SIZES.a);
    assert.equal(statSync(join(path, 'a.checksums')).size, 44);
    await group.close();
    assert.equal(existsSync(path), false, 'of a session that never began nothing is left');
  });

  it('has its manifest last, with the digest of each file of checksums', async () => {
    const group = await prepare();
    const told = [];
    for (const [i, disk] of group.disks.entries()) {
      writeSync(disk.checksumsFd, Buffer.alloc(4, i + 1), 0, 4, 0);
      told.push(await disk.commit(draft(disks[i]!.context.size)));
      assert.equal(existsSync(join(path, 'manifest.json')), false);
      await disk.close();
    }
    const manifest = await group.seal(draft(0), told);
    await group.close();
    assert.deepEqual(await readAnyManifest(path), manifest);
    assert.equal(manifest.state, 'complete');
    for (const { name, checksums } of manifest.disks) {
      const content = readFileSync(join(path, `${name}.checksums`));
      assert.equal(checksums.sha256, createHash('sha256').update(content).digest('hex'));
    }
  });

  it('keeps what is good beside what broke, whatever became of its files', async () => {
    const group = await prepare();
    const [a, b] = group.disks;
    const good = await a!.commit(draft(SIZES.a));
    await b!.close();
    const error = { code: 'ERR_SNAPBAK_BROKEN', message: 'why' };
    const broke = await b!.fail({ ...draft(SIZES.b), error });
    assert.equal(broke.checksums.sha256, '0'.repeat(64), 'it could not be read any more');
    const manifest = await group.seal({ ...draft(0), error }, [good, broke]);
    await group.close();
    assert.deepEqual(
      manifest.disks.map(({ state }) => state),
      ['complete', 'broken'],
    );
    assert.equal(manifest.state, 'broken');
    assert.deepEqual(await readAnyManifest(path), manifest);
  });

  it('is refused if it is not empty, or is the place of any of the origins', async () => {
    mkdirSync(path);
    const { dev, ino } = statSync(path);
    const origin = { ...fakeInfo(SIZES.b), lowerFsDev: dev, lowerInode: ino };
    const onTheSecond = [disks[0]!, { name: 'b', context: { ...disks[1]!.context, origin } }];
    await assert.rejects(directoryTarget(path).prepareGroup!(onTheSecond), {
      code: 'ERR_SNAPBAK_TARGET_REFUSED',
      message: /is the origin itself/,
    });
    writeFileSync(join(path, 'something'), '');
    await assert.rejects(prepare(), { code: 'ERR_SNAPBAK_TARGET_REFUSED', message: /is not empty/ });
    assert.deepEqual(readdirSync(path), ['something']);
  });

  it('takes no disk for good that is said to be broken', async () => {
    const group = await prepare();
    await assert.rejects(group.disks[0]!.commit({ ...draft(SIZES.a), state: 'broken' }), RangeError);
    await group.close();
  });
});
