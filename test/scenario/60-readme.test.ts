// The README's program, word for word but for the paths: a backup of the used blocks of a served
// ext4, with a clone that can be used meanwhile.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cleanup } from '../helpers/cleanup.js';
import { snapbakExits } from '../helpers/cli.js';
import { must } from '../helpers/programs.js';
import { serveImage } from '../helpers/served-image.js';
import { emptyImage } from '../helpers/used-image.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MIB = 2 ** 20;

describe('the program of the README', () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  it('backs up what is used, with a clone', async () => {
    const folder = cleanup.folder('readme');
    const files = join(folder, 'files');
    for (const path of ['backup', 'tmp', 'files', 'app/node_modules/@snapbak']) {
      mkdirSync(join(folder, path), { recursive: true });
    }
    for (let i = 0; i < 20; i++) writeFileSync(join(files, `${i}`), `${i}\n`.repeat(100_000));
    const disk = emptyImage(join(folder, 'disk'), 64 * MIB);
    await must('mke2fs', ['-q', '-t', 'ext4', '-d', files, disk]);
    const served = await serveImage(cleanup, { image: disk });

    const [program] =
      /(?<=```js\n)import .*?(?=```)/s.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) ?? [];
    assert.ok(program !== undefined, 'there is a program');
    const here = program
      .replaceAll("'unix:/run/vm1.control'", JSON.stringify(served.origin))
      .replaceAll(
        /'(\/run|\/backup|\/var\/tmp)\//g,
        (_, place) => `'${folder}${place === '/backup' ? place : '/tmp'}/`,
      );
    assert.equal(here.match(new RegExp(folder, 'g'))?.length, 3, here);
    symlinkSync(ROOT, join(folder, 'app/node_modules/@snapbak/core'));
    writeFileSync(join(folder, 'app/main.mjs'), here);

    const said = await must(process.execPath, ['main.mjs'], { cwd: join(folder, 'app') });
    const used = Number(/ of (\d+)\n/.exec(said)?.[1]);
    assert.match(said, /^the disk as of .* can be used at nbd\+unix:/);
    assert.ok(used > 11 * MIB && used < 32 * MIB, said);
    await snapbakExits(0, 'verify', join(folder, 'backup/monday'));
    await must('cmp', [join(folder, 'tmp/vm1-clone.img'), join(folder, 'backup/monday/data.img')]);
    await must('e2fsck', ['-fn', join(folder, 'tmp/vm1-clone.img')]);
  });
});
