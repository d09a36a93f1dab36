import assert from 'node:assert/strict';
import { BlockList } from '../../../../lib/blocks/block-list.js';
import type { RunTool } from '../../../../lib/blocks/used/tool.js';
import { usedOfXfs } from '../../../../lib/blocks/used/xfs.js';
import { LogReader, numberOf, parseFreeRun, parseStructures } from '../../../../lib/blocks/used/xfs-text.js';

/** Two groups of 100 and 80 blocks; in the first, 10 to 59 are free, and block 7 is in its free list. */
const SUPER: Record<string, string> = {
  magicnum: '0x58465342',
  blocksize: '4096',
  sectsize: '512',
  dblocks: '180',
  rblocks: '0',
  rextents: '0',
  logstart: '65542',
  agblocks: '100',
  agcount: '2',
  versionnum: '0xb4a5',
  fname: '"a = b\\000"',
  inprogress: '0',
  features_ro_compat: '0xd',
  features_incompat: '0xb',
};
const GROUPS = `magicnum = 0x58414746
flfirst = 3
flcount = 2
freeblks = 50
magicnum = 0x5841464c
bno[0-3] = 0:8 1:null 2:null 3:7
magicnum = 0x58414746
flfirst = 0
flcount = 0
freeblks = 3
bno[0-3] = 0:null 1:null 2:null 3:null`;
const FREE = `    agno    agbno      len
       0       10       50
       0        7        1
       0        8        1
       1       77        3
   from      to extents  blocks    pct
      1       1       2       2   2.50`;

const LOG = `xfs_logprint:
    data device: 0xffffffffffffffff
    log device: 0xffffffffffffffff daddr: 327728 length: 131072

    log tail: 632 head: 636 state: <DIRTY>


LOG REC AT LSN cycle 1 block 632 (0x1, 0x278)
============================================================================
TRANS: tid:0xc093f352  #items:2  trans:0xc093f352  q:0x55fbb6c3d990
BUF: cnt:2 total:2 a:0x55fbb6c2bba0 len:24 a:0x55fbb6c3da10 len:384${' '}
\tBUF:  #regs:2   start blkno:0x0   len:1   bmap size:1   flags:0x9000
\tSUPER Block Buffer:`;
const CLEAN = 'xfs_logprint:\n    log tail: 2 head: 2 state: <CLEAN>\n';

function tool(change: Record<string, string> = {}, groups = GROUPS, free = FREE, log = CLEAN): RunTool {
  return async (name, args, line) => {
    const fields = Object.entries({ ...SUPER, ...change }).map(([key, value]) => `${key} = ${value}`);
    const command = args.find((arg) => /^(sb|agf|freesp)/.test(arg)) ?? '';
    const said =
      name === 'xfs_logprint'
        ? log
        : command.startsWith('sb')
          ? fields.join('\n')
          : command.startsWith('agf')
            ? groups
            : free;
    for (const text of said.split('\n')) line(text);
  };
}

const SIZE = 180 * 4096 + 1000;

async function doubt(run: RunTool, size = SIZE): Promise<string> {
  const verdict = await usedOfXfs('image', size, run).catch((error: Error) => ({
    doubt: error.message,
  }));
  assert.ok('doubt' in verdict);
  return verdict.doubt;
}

describe('xfs', () => {
  it('uses all but its free runs; the free list is its own', async () => {
    const verdict = await usedOfXfs('image', SIZE, tool());
    assert.ok('used' in verdict);
    const free = [...BlockList.all(SIZE).subtract(BlockList.extents(verdict.used))];
    assert.deepEqual(free, [
      { offset: 10 * 4096, length: 50 * 4096 },
      { offset: 177 * 4096, length: 3 * 4096 },
    ]);
  });

  it('is believed with a log that has superblocks alone, as a freeze leaves it', async () => {
    const logged = (log: string) => tool({}, GROUPS, FREE, log);
    assert.ok('used' in (await usedOfXfs('image', SIZE, logged(LOG))));
    for (const [what, changed] of [
      ['another buffer', LOG.replace('blkno:0x0', 'blkno:0x1')],
      ['a larger one', LOG.replace('len:1 ', 'len:8 ')],
      ['an inode', `${LOG}\nINO: cnt:2 total:2 a:0x55fa287dfd90 len:56 a:0x55fa287f3980 len:176`],
      ['an AGF', LOG.replace('SUPER Block Buffer:', 'AGF Buffer: (XAGF)')],
      ['an intent', `${LOG}\nEFI: cnt:1 total:1 a:0x55 len:32`],
      ['a buffer that nobody calls a superblock', LOG.replace('\tSUPER Block Buffer:', '')],
      ['a complaint', `${LOG}\nxfs_logprint: unknown log operation type (0)`],
      ['no state', LOG.replace(/ +log tail.*/, '')],
      ['nothing, and yet is dirty', CLEAN.replace('CLEAN', 'DIRTY')],
    ] as const) {
      assert.match(await doubt(logged(changed)), /log is dirty/, what);
    }
    assert.match(await doubt(tool({ sectsize: '4096' }, GROUPS, FREE, LOG)), /log is dirty/);
  });

  it('is not believed where anything is not as expected', async () => {
    assert.match(await doubt(tool({ logstart: '0' })), /log is on another device/);
    assert.match(await doubt(tool({ rextents: '5' })), /real-time/);
    assert.match(await doubt(tool({ inprogress: '1' })), /interrupted/);
    assert.match(await doubt(tool({ versionnum: '0xb4a6' })), /version/);
    assert.match(await doubt(tool({ features_incompat: '0x1b' })), /repair/);
    assert.match(await doubt(tool({ features_incompat: '0x10b' })), /features/);
    assert.match(await doubt(tool({ features_ro_compat: '0x10' })), /features/);
    assert.match(await doubt(tool({ agcount: '3' })), /do not add up/);
    assert.match(await doubt(tool(), 179 * 4096), /larger/);
    assert.match(await doubt(tool({ dblocks: 'null' })), /no dblocks/);
    assert.match(await doubt(tool({}, GROUPS.replace('= 50', '= 49'))), /another amount/);
    assert.match(await doubt(tool({}, GROUPS.replace('3:7', '3:null'))), /holes/);
    assert.match(await doubt(tool({}, GROUPS.split('\n').slice(6).join('\n'))), /not show all/);
    assert.match(await doubt(tool({}, GROUPS, FREE.replace('77', '98'))), /outside/);
    assert.match(await doubt(tool({}, GROUPS, FREE.replace('77', '78'))), /overlaps/);
    assert.match(await doubt(tool({}, GROUPS, FREE.replace('1       77', '2       77'))), /outside/);
    assert.match(await doubt(tool({}, 'xfs_db: cannot init perag data')), /xfs_db says/);
  });

  it('has text that is taken strictly', () => {
    assert.deepEqual(parseFreeRun('       0       10    50'), { group: 0, block: 10, blocks: 50 });
    assert.equal(parseFreeRun('    agno    agbno      len'), undefined);
    assert.throws(() => parseFreeRun('0 10 x'), /xfs_db says/);
    assert.throws(() => parseStructures(['Metadata CRC error']), /xfs_db says/);
    assert.throws(() => numberOf(new Map([['a', '-1']]), 'a'), /no a/);
    assert.equal(new LogReader(512).settled, false);
  });
});
