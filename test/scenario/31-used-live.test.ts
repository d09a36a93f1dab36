// Used-block lists of an ext3 and ext4 that are mounted and written to: what recovery makes of
// the listed blocks alone is what it makes of the whole device. SNAPBAK_USED_ROUNDS: how many
// file systems with options by chance (3).
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Cleanup } from '../helpers/cleanup.js';
import { LiveExt, reflinkFolder } from '../helpers/live-ext.js';
import { needMounts, needPrograms, run } from '../helpers/programs.js';
import { copyUsed, filesOf } from '../helpers/used-image.js';

const ROUNDS = Number(process.env.SNAPBAK_USED_ROUNDS ?? 3);
const FIRST_SEED = Number(process.env.SNAPBAK_USED_SEED ?? 1);
const CLONES = 2;

/** What mkfs and the mount are told, by the bits of a seed. */
function draw(seed: number) {
  const pick = <T>(list: T[], divisor: number) =>
    list[Math.floor((seed * 2654435761) / divisor) % list.length]!;
  const kind = pick(['ext4', 'ext4', 'ext4', 'ext3'], 7);
  const features =
    kind === 'ext3'
      ? ['', '-b 1024', '-g 1024 -b 1024']
      : [
          '',
          '-b 1024',
          '-b 1024 -g 1024',
          '-O ^metadata_csum,uninit_bg',
          '-O bigalloc -C 16384',
          '-O ^64bit,^flex_bg -b 1024 -g 2048',
          '-O meta_bg,^resize_inode -b 1024 -g 1024',
          '-O orphan_file,inline_data -b 1024',
          '-O ^extents,^64bit',
        ];
  const journal = pick(['', '-J size=4', '-J size=8'], 31);
  const data = pick(['ordered', 'ordered', 'writeback', 'journal'], 101);
  const mkfs = [`mkfs.${kind}`, '-q', '-F', ...pick(features, 3).split(' '), ...journal.split(' ')].filter(
    Boolean,
  );
  // v3 checksums of the log
  const options = `commit=1,data=${data}${kind === 'ext4' && pick([0, 1], 13) === 1 ? ',journal_checksum' : ''}`;
  return { mkfs, options, size: pick([24, 48, 96], 17) << 20, seed };
}

describe('the used blocks of a file system that is written to', () => {
  const cleanup = new Cleanup();
  let outer: string;
  before(async function () {
    this.timeout(60_000);
    needMounts();
    needPrograms('mkfs.ext4', 'mkfs.xfs', 'e2fsck', 'mount', 'losetup');
    outer = await reflinkFolder(cleanup, 2 ** 30);
  });
  after(() => cleanup.run());

  it('are enough for recovery, whatever the log holds', async function () {
    this.timeout(ROUNDS * 60_000);
    let live = 0;
    for (let seed = FIRST_SEED; seed < FIRST_SEED + ROUNDS; seed++) {
      const options = draw(seed);
      await using writer = await LiveExt.start(outer, options);
      for (let i = 0; i < CLONES; i++) {
        const clone = await writer.clone();
        const what = `seed ${seed}, clone ${i}: ${options.mkfs.join(' ')}, ${options.options}`;
        live += (await check(clone, what)) ? 1 : 0;
      }
    }
    assert.ok(live > 0, `none of ${ROUNDS * CLONES} logs had anything to recover`);
  });

  async function check(clone: string, what: string): Promise<boolean> {
    const copy = `${clone}-copy`;
    const { list, parts } = await copyUsed(clone, copy);
    assert.deepEqual(
      parts.map(({ full, reason }) => ({ full, reason })),
      [{ full: false, reason: undefined }],
      what,
    );
    const [whole, listed] = [await recover(clone), await recover(copy)];
    assert.equal(listed.said.replaceAll(copy, clone), whole.said, what);
    assert.ok(
      listed.code === 0 || listed.code === 1,
      `${what}: e2fsck ended with ${listed.code}\n${listed.said}`,
    );
    const clean = await run('e2fsck', ['-fn', copy]);
    assert.equal(clean.code, 0, `${what}\n${clean.stdout}`);
    const options = 'loop,ro,noload';
    assert.deepEqual(
      await filesOf(copy, join(outer, 'a'), options),
      await filesOf(clone, join(outer, 'b'), options),
      what,
    );
    if (process.env.SNAPBAK_USED_ROUNDS !== undefined) console.log(what, list.bytes, parts[0]?.note ?? '');
    for (const path of [clone, copy]) rmSync(path);
    return parts[0]?.note !== undefined;
  }
});

async function recover(image: string) {
  const { code, stdout } = await run('e2fsck', ['-fy', image]);
  return { code, said: stdout };
}
