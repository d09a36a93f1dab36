// PostgreSQL on a file system that is backed up while pgbench runs: a cluster that is restored recovers, is
// sound in every structure, and has each transaction that was confirmed before the start instant.
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../../lib/manifest.js';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliEvent, expectExit } from '../helpers/cli.js';
import { expectClean } from '../helpers/fs-story.js';
import { MountedFs } from '../helpers/mounted-fs.js';
import { makeCluster, openFolder, Postgres, postgresql, runFolder } from '../helpers/postgresql.js';
import { must } from '../helpers/programs.js';
import { restored, type ServedImage, serveImage, startBackup } from '../helpers/served-image.js';
import { emptyImage, withMount } from '../helpers/used-image.js';

const MIB = 2 ** 20;
const SIZE = 192 * MIB;

describe('PostgreSQL that is backed up under load', () => {
  const cleanup = new Cleanup();
  let folder: string;
  let served: ServedImage;
  let fs: MountedFs;
  let postgres: Postgres;
  before(async function () {
    this.timeout(120_000);
    folder = openFolder(cleanup);
    const made = makeCluster(cleanup);
    served = await serveImage(cleanup, { image: emptyImage(join(folder, 'disk.img'), SIZE) });
    fs = await MountedFs.make('ext4', served.nbdSocket, folder);
    cleanup.defer('unmount', () => fs.close());
    await must('cp', ['-a', await made, fs.mountPoint]);
    await must('sync', ['-f', fs.mountPoint]);
    postgres = await Postgres.start(cleanup, join(fs.mountPoint, 'data'), folder);
  });
  after(() => cleanup.run());

  /** A backup while it works; `name` is that of the backup's folder. Gives what was said of it. */
  async function backedUp(name: string, ...options: string[]): Promise<CliEvent[]> {
    await postgres.confirmed(100);
    const backup = startBackup(cleanup, served.origin, join(folder, name), '--rate', '24M', ...options);
    await backup.event('started');
    await postgres.confirmed(100);
    const { events } = await expectExit(0, backup.finished);
    const { writers } = events.at(-1)!.stats as { writers: { captured: number } };
    assert.ok(writers.captured > 0, 'nothing was overwritten before it was copied');
    return events;
  }

  /** Restores it to a new image, mounts that, and checks the cluster that is on it. Gives the figures. */
  async function recovered(name: string): Promise<string> {
    const directory = join(folder, name);
    const image = await restored(directory, `${name}.img`);
    const { startedAt } = await readManifest(directory);
    const run = runFolder(folder, `${name}-run`);
    const said = await withMount(image, join(folder, `${name}-mnt`), 'loop', (path) =>
      postgresql('check', join(path, 'data'), run, postgres.journal, startedAt),
    );
    await expectClean('e2fsck', ['-fn', image]);
    return said;
  }

  it('recovers from a backup of the used blocks, of which it knew nothing', async () => {
    const events = await backedUp('live', '--blocks', 'used');
    const { parts } = events.find(({ event }) => event === 'blocks') as unknown as {
      parts: { what: string; full: boolean }[];
    };
    assert.deepEqual(
      parts.map(({ what, full }) => [what, full]),
      [['ext4', false]],
      JSON.stringify(parts),
    );
    console.log(await recovered('live'));
  });

  it('recovers from one with a hook that made a checkpoint and froze its file system', async () => {
    const hook = join(folder, 'hook');
    const lines = [
      '#!/bin/sh',
      'set -eu',
      'case $1 in',
      `before-freeze) ${postgres.sqlCommand('CHECKPOINT')} && fsfreeze --freeze '${fs.mountPoint}' ;;`,
      `after-thaw) fsfreeze --unfreeze '${fs.mountPoint}' ;;`,
      'esac',
    ];
    await writeFile(hook, `${lines.join('\n')}\n`);
    await chmod(hook, 0o700);
    await backedUp('hooked', '--blocks', 'used', '--hook', hook);
    console.log(await recovered('hooked'));
  });

  it('has lost nothing itself, and neither has its file system', async () => {
    await postgres.confirmed(100);
    await postgres.stop();
    await fs.close();
    await expectClean('e2fsck', ['-fn', served.image]);
  });
});
