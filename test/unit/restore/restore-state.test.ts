import assert from 'node:assert/strict';
import { lstatSync, renameSync, symlinkSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { binding } from '../../../lib/binding.js';
import { SnapbakError } from '../../../lib/errors.js';
import {
  bootId,
  defaultStatePath,
  destinationIdentity,
  makeState,
  openState,
  restoreJob,
} from '../../../lib/restore/restore-state.js';
import { manifestOf } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { must } from '../../helpers/programs.js';

describe('the state file of a restore', () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  it('lies beside a file, and for a device where the machine keeps state', () => {
    assert.equal(defaultStatePath('/a/disk.img', false), '/a/disk.img.restore-state');
    assert.equal(
      defaultStatePath('/dev/vg0/new', true),
      '/var/lib/snapbak/restore/dev-vg0-new.restore-state',
    );
  });

  it('is its owner’s, and tells later what it was made for', async () => {
    const path = join(cleanup.folder('state'), 'state');
    const job = restoreJob(manifestOf(10_000_000), '/a/disk.img', 'file 5 7');
    const made = await makeState(path, job, binding());
    await made.file.close();
    assert.equal(lstatSync(path).mode & 0o7777, 0o600);
    // 8 KiB of text and boot, and two bitmaps of a page each
    assert.equal(lstatSync(path).size, 16_384);
    const found = await openState(path);
    assert.deepEqual(found?.job, job);
    await found?.remove();
    await found?.file.close();
    assert.equal(await openState(path), undefined);
  });

  it('is refused when it is damaged, cut, or a link', async () => {
    const folder = cleanup.folder('state');
    const path = join(folder, 'state');
    const refused = (at: string, words: RegExp) =>
      assert.rejects(openState(at), (error: Error) => SnapbakError.is(error) && words.test(error.message));
    writeFileSync(path, 'rubbish');
    await refused(path, /is no state file/);
    writeFileSync(path, '{"format":"another"}');
    await refused(path, /is no state file/);
    const job = restoreJob(manifestOf(4096), '/a', 'file 1 1');
    const good = join(folder, 'good');
    await (await makeState(good, job, binding())).file.close();
    symlinkSync(good, join(folder, 'link'));
    await refused(join(folder, 'link'), /cannot open the state file/);
    truncateSync(good, 8192);
    await refused(good, /damaged/);
  });

  it('knows a file by more than its name', async () => {
    const folder = cleanup.folder('state');
    const [one, two] = [join(folder, 'one'), join(folder, 'two')];
    writeFileSync(one, '');
    writeFileSync(two, '');
    assert.notEqual(await destinationIdentity(one), await destinationIdentity(two));
    assert.equal(await destinationIdentity(one), await destinationIdentity(one));
    assert.match(await bootId(), /^[0-9a-f-]{36}$/);
  });

  it('knows a loop device by its file and the part of it, and not by the file’s name', async () => {
    const file = join(cleanup.folder('loop'), 'content');
    writeFileSync(file, Buffer.alloc(2 ** 20));
    // a device of its own each time: whatever number is free, others may have by then
    const attach = async (...options: string[]) => {
      const device = (await must('losetup', ['--find', '--show', ...options, file])).trim();
      cleanup.defer(`detach ${device}`, () => must('losetup', ['-d', device]));
      return device;
    };
    const first = await destinationIdentity(await attach());
    assert.equal(await destinationIdentity(await attach()), first);
    const parts = [await attach('-o', '4096'), await attach('--sizelimit', '8192')].map(destinationIdentity);
    renameSync(file, `${file}.old`);
    writeFileSync(file, Buffer.alloc(2 ** 20));
    const changed = await attach();
    const other = await destinationIdentity(changed);
    // nothing is told by its name any more: believed for as long as it stays attached
    unlinkSync(file);
    const nameless = await destinationIdentity(changed);
    assert.equal(await destinationIdentity(changed), nameless);
    renameSync(`${file}.old`, file);
    const back = await attach();
    assert.equal(await destinationIdentity(back), first, 'the first file again');
    unlinkSync(file);
    const another = await destinationIdentity(back);
    assert.equal(new Set([first, ...(await Promise.all(parts)), other, nameless, another]).size, 6);
  });
});
