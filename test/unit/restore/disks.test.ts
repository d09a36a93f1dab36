// A backup of several disks, as it is verified, restored, served and shown.
import assert from 'node:assert/strict';
import { linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Output } from '../../../lib/cli/output.js';
import { run } from '../../../lib/cli/program.js';
import { type DiskManifest, writeManifest } from '../../../lib/manifest.js';
import { restoreOnDemand } from '../../../lib/restore/on-demand.js';
import { destinationIdentity, makeState, restoreJob } from '../../../lib/restore/restore-state.js';
import { type RestoreOptions, restore } from '../../../lib/restore/restore.js';
import { serveBackup } from '../../../lib/restore/serve-backup.js';
import { type VerifyOptions, verify } from '../../../lib/restore/verify.js';
import { makeGroupBackup } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { dataBinding } from '../../helpers/fake-binding.js';
import { stamped } from '../../helpers/images.js';
import { TextSink } from '../../helpers/text-sink.js';

const SIZES = { a: 20 * 4096 + 1000, b: 8 * 4096 };
const BROKEN = {
  state: 'broken',
  error: { code: 'ERR_SNAPBAK_DRIVER_GONE', message: 'it is gone' },
} as const;

describe('a backup of several disks', () => {
  const cleanup = new Cleanup();
  const images = { a: stamped(0, SIZES.a, 1), b: stamped(0, SIZES.b, 2) };
  let backup: string;
  let folder: string;
  const native = () => dataBinding().native;
  const check = (options: Partial<VerifyOptions> = {}) => verify({ backup, ...options }, { native });
  const bring = (options: Partial<RestoreOptions> = {}) =>
    restore({ backup, to: join(folder, 'restored.img'), ...options }, { native });
  const make = (changes: Record<string, Partial<DiskManifest>> = {}) =>
    makeGroupBackup(backup, images, changes);
  /** Every disk is complete, and the whole is not. */
  const makeWorse = async () => {
    const error = { code: 'ERR_SNAPBAK_ABORTED', message: 'it was aborted' };
    await writeManifest(backup, { ...(await make()), state: 'broken', error });
  };
  beforeEach(() => {
    folder = cleanup.folder('disks');
    backup = join(folder, 'backup');
  });
  after(() => cleanup.run());

  async function cli(...args: string[]): Promise<{ status: number; out: string; err: string }> {
    const [out, err] = [new TextSink(), new TextSink()];
    const status = await run(args, new Output(out, err));
    return { status, out: out.text, err: err.text };
  }

  it('is verified whole, and what of it is whose is told', async () => {
    await make();
    let last: unknown;
    const { disks, seconds, ...sum } = await check({
      onProgress: (progress) => {
        last = progress;
      },
    });
    const bytes = SIZES.a + SIZES.b;
    assert.deepEqual(sum, { bytes, badBlocks: 0, invalidBlocks: 0, invalidExtents: [] });
    assert.deepEqual(
      disks?.map((disk) => [disk.name, disk.bytes]),
      Object.entries(SIZES),
    );
    assert.deepEqual(last, { doneBytes: bytes, totalBytes: bytes, badBlocks: 0 });
    assert.ok(seconds >= 0);
  });

  it('is verified in part if a disk is named', async () => {
    await make({ a: BROKEN });
    const { bytes, disks } = await check({ disk: 'b' });
    assert.equal(bytes, SIZES.b);
    assert.equal(disks, undefined);
    await assert.rejects(check({ disk: 'c' }), { name: 'RangeError', message: /disk must be one of a, b/ });
    await assert.rejects(check({ disk: 7 as never }), { name: 'TypeError', message: /options\.disk/ });
  });

  it('with a disk that broke is no good one, and the others are verified all the same', async () => {
    await make({ a: BROKEN });
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_INCOMPLETE',
      message: /these disks were broken: a \(it is gone\); these are good: b$/,
    });
    const image = readFileSync(join(backup, 'b.img'));
    image[5000]! ^= 1;
    writeFileSync(join(backup, 'b.img'), image);
    await assert.rejects(check(), { code: 'ERR_SNAPBAK_CORRUPT', path: join(backup, 'b.img') });
  });

  it('gives back the disk that is named, also beside one that broke', async () => {
    await make({ a: BROKEN });
    await bring({ disk: 'b' });
    assert.ok(readFileSync(join(folder, 'restored.img')).equals(images.b));
    await assert.rejects(bring({ disk: 'a' }), {
      code: 'ERR_SNAPBAK_INCOMPLETE',
      message: /disk a of the backup in .* was broken: it is gone/,
    });
  });

  it('whose manifest says broken is no good one, though all of its disks are', async () => {
    await makeWorse();
    await assert.rejects(check(), {
      code: 'ERR_SNAPBAK_INCOMPLETE',
      message: /was broken as a whole \(it was aborted\); these are good: a, b$/,
      path: backup,
    });
    const { status, err } = await cli('verify', backup);
    assert.equal(status, 1);
    assert.match(err, /was broken as a whole/);
    const { out } = await cli('inspect', backup);
    assert.match(out, /^2 disks of one instant: broken \(ERR_SNAPBAK_ABORTED: it was aborted\)\n/);
  });

  it('whose manifest says broken gives back a disk that is complete, by its name', async () => {
    await makeWorse();
    assert.equal((await check({ disk: 'a' })).bytes, SIZES.a);
    await bring({ disk: 'b' });
    assert.ok(readFileSync(join(folder, 'restored.img')).equals(images.b));
    const { out } = await cli('inspect', backup, '--disk', 'a');
    assert.match(out, /state: +complete\n/);
  });

  it('is not restored over any of its own files, whichever disk they are of', async () => {
    await make();
    const linked = join(folder, 'linked');
    mkdirSync(linked);
    linkSync(join(backup, 'b.img'), join(linked, 'b.img'));
    const socket = join(folder, 'nbd.sock');
    const before = new Map(readdirSync(backup).map((name) => [name, readFileSync(join(backup, name))]));
    assert.deepEqual([...before.keys()].sort(), [
      'a.checksums',
      'a.img',
      'b.checksums',
      'b.img',
      'manifest.json',
    ]);
    const places = [...before.keys()].map((name) => join(backup, name));
    for (const to of [...places, join(linked, 'b.img')]) {
      const refused = {
        code: 'ERR_SNAPBAK_RESTORE',
        message: /restore refused: .* is part of the backup itself$/,
      };
      await assert.rejects(bring({ disk: 'a', to, force: true }), refused, to);
      const programs = { nbdkit: () => '/bin/false', plugin: () => '/plugin' };
      const onDemand = { backup, disk: 'a', to, socket, force: true };
      await assert.rejects(restoreOnDemand(onDemand, { native, ...programs }), refused, to);
    }
    assert.deepEqual(readdirSync(backup).sort(), [...before.keys()].sort());
    for (const [name, content] of before)
      assert.ok(readFileSync(join(backup, name)).equals(content), `${name} is as it was`);
  });

  it('is not gone on with over one of its own files, whatever a state file says', async () => {
    const { disks, ...whole } = await make({});
    const to = join(backup, 'b.img');
    const { name: _, ...rest } = disks.find(({ name }) => name === 'a')!;
    const job = restoreJob({ ...whole, ...rest, formatVersion: 1 }, to, await destinationIdentity(to));
    const { file } = await makeState(join(folder, 'state'), job, native());
    await file.close();
    const onDemand = { backup, disk: 'a', to, socket: join(folder, 'nbd.sock'), resume: true };
    const programs = { nbdkit: () => '/bin/false', plugin: () => '/plugin' };
    await assert.rejects(
      restoreOnDemand({ ...onDemand, state: join(folder, 'state') }, { native, ...programs }),
      { code: 'ERR_SNAPBAK_RESTORE', message: /is part of the backup itself$/ },
    );
  });

  it('is not restored, served or mounted without the name of one', async () => {
    await make();
    const none = { name: 'RangeError', message: /disk must be given \(--disk\).*: a, b$/ };
    const socket = join(folder, 'nbd.sock');
    await assert.rejects(bring(), none);
    await assert.rejects(serveBackup({ backup, socket }, { native, nbdkit: () => 'nbdkit' }), none);
    await assert.rejects(restoreOnDemand({ backup, socket, to: join(folder, 'x.img') }, { native }), none);
    for (const args of [
      ['restore', backup, join(folder, 'x.img')],
      ['restore', backup, join(folder, 'x.img'), '--export', socket],
      ['mount-backup', backup, socket],
    ]) {
      const { status, err } = await cli(...args);
      assert.equal(status, 2, args.join(' '));
      assert.match(err, /disk must be given \(--disk\).*: a, b\n$/);
    }
  });

  it('is shown disk by disk, or one of them', async () => {
    await make({ b: BROKEN });
    const { status, out } = await cli('inspect', backup);
    assert.equal(status, 0);
    assert.match(out, /^2 disks of one instant: broken\n\ndisk: +a\n/);
    assert.match(out, /state: +complete\n/);
    assert.match(out, /disk: +b\n.*\nstate: +broken \(ERR_SNAPBAK_DRIVER_GONE: it is gone\)\n/);
    const one = await cli('inspect', backup, '--disk', 'b', '--json');
    assert.equal(JSON.parse(one.out).state, 'broken');
    const all = JSON.parse((await cli('inspect', backup, '--json')).out);
    assert.deepEqual(
      all.disks.map(({ name, state, listedBytes }: Record<string, unknown>) => [name, state, listedBytes]),
      [
        ['a', 'complete', SIZES.a],
        ['b', 'broken', SIZES.b],
      ],
    );
    assert.equal((await cli('inspect', backup, '--disk', 'c')).status, 2);
  });
});
