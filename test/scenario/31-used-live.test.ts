// Used-block lists of file systems that are mounted and written to. An ext3 or ext4 at any moment: what recovery
// makes of the listed blocks alone is what it makes of the whole device. An xfs, and an ext without a journal,
// while it is frozen; then the kernel's GETFSMAP is asked besides. SNAPBAK_USED_ROUNDS: how many file systems with options by chance of each kind; more by
// `npm run used-images`.
import assert from 'node:assert/strict';
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { BlockList } from '../../lib/blocks/block-list.js';
import { Cleanup } from '../helpers/cleanup.js';
import { type LiveClone, LiveFs, reflinkFolder } from '../helpers/live-fs.js';
import { must, needMounts, needPrograms, run } from '../helpers/programs.js';
import { draw, KINDS, type Kind } from '../helpers/used-draw.js';
import { copyUsed, filesOf } from '../helpers/used-image.js';

const ROUNDS = Number(process.env.SNAPBAK_USED_ROUNDS ?? 2);
const FIRST_SEED = Number(process.env.SNAPBAK_USED_SEED ?? 1);
const VERBOSE = process.env.SNAPBAK_USED_ROUNDS !== undefined;
const CLONES = 2;

/** Makes an image whole, as who restores it would: what the checker says of it, and its files then. */
const RECOVER = {
  async ext(image: string, folder: string) {
    const { code, stdout } = await run('e2fsck', ['-fy', image]);
    assert.ok(code === 0 || code === 1, `e2fsck ended with ${code}\n${stdout}`);
    return { said: stdout, files: await filesOf(image, folder, 'loop,ro') };
  },
  // a mount does it
  async xfs(image: string, folder: string) {
    return { said: '', files: await filesOf(image, folder, 'loop,nouuid') };
  },
} satisfies Record<Kind, unknown>;
/** A list against all that GETFSMAP does not call free, of the same frozen instant. */
const AS_THE_KERNEL_SAYS = {
  // what it keeps for files that are open is used in its memory only, and empty
  ext: (list, used, what) => assert.equal(list.subtract(used).toText(), '', what),
  xfs: (list, used, what) => assert.equal(list.toText(), used.toText(), what),
} satisfies Record<Kind, (list: BlockList, used: BlockList, what: string) => void>;
const CHECK: Record<Kind, string[]> = { ext: ['e2fsck', '-fn'], xfs: ['xfs_repair', '-n'] };

describe('the used blocks of a file system that is written to', () => {
  const cleanup = new Cleanup();
  let outer: string;
  before(async function () {
    this.timeout(60_000);
    needMounts();
    needPrograms('mkfs.ext4', 'mkfs.xfs', 'xfs_repair', 'xfs_io', 'e2fsck', 'mount', 'losetup', 'fsfreeze');
    outer = await reflinkFolder(cleanup, 2 ** 30);
  });
  after(() => cleanup.run());

  for (const kind of KINDS) {
    it(`are enough for recovery, whatever the log holds: ${kind}`, async function () {
      this.timeout(ROUNDS * 60_000);
      let live = 0;
      for (let seed = FIRST_SEED; seed < FIRST_SEED + ROUNDS; seed++) {
        const options = draw(kind, seed);
        await using writer = await LiveFs.start(outer, options);
        for (let i = 0; i < CLONES; i++) {
          const clone = await writer.clone();
          const what = `${kind}, seed ${seed}, clone ${i}: ${options.mkfs.join(' ')}, ${options.options}, ${options.size >> 20} MiB`;
          live += (await check(kind, clone, what)) ? 1 : 0;
        }
      }
      if (kind === 'ext') assert.ok(live > 0, `none of ${ROUNDS * CLONES} logs had anything to recover`);
    });
  }

  async function check(kind: Kind, { path: clone, free }: LiveClone, what: string): Promise<boolean> {
    const copy = `${clone}-copy`;
    const { list, parts } = await copyUsed(clone, copy);
    assert.deepEqual(
      parts.map(({ full, reason }) => ({ full, reason })),
      [{ full: false, reason: undefined }],
      what,
    );
    if (free !== undefined)
      AS_THE_KERNEL_SAYS[kind](list, BlockList.all(statSync(clone).size).subtract(free), what);
    const whole = await RECOVER[kind](clone, join(outer, 'a'));
    const listed = await RECOVER[kind](copy, join(outer, 'b'));
    assert.equal(listed.said.replaceAll(copy, clone), whole.said, what);
    assert.deepEqual(listed.files, whole.files, what);
    const [program, ...args] = CHECK[kind];
    await must(program!, [...args, copy]);
    if (VERBOSE) console.log(what, list.bytes, parts[0]?.note ?? '');
    for (const path of [clone, copy]) rmSync(path);
    return parts[0]?.note !== undefined;
  }
});
