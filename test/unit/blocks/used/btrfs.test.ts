import assert from 'node:assert/strict';
import { BlockList } from '../../../../lib/blocks/block-list.js';
import { usedOfBtrfs } from '../../../../lib/blocks/used/btrfs.js';
import type { RunTool } from '../../../../lib/blocks/used/tool.js';

const MIB = 2 ** 20;
const SIZE = 100 * MIB;

const SUPER: Record<string, string> = {
  csum: '0x278865b9 [match]',
  log_root: '0',
  bytes_used: `${16384 + 8192}`,
  nodesize: '16384',
  num_devices: '1',
  compat_ro_flags: '0x3',
  incompat_flags: '0x341',
  'dev_item.total_bytes': `${99 * MIB}`,
  'dev_item.bytes_used': `${6 * MIB}`,
  'dev_item.devid': '1',
};
const HEAD =
  'btrfs-progs v6.2\nleaf 22036480 items 4 free space 15781 generation 6 owner X\nfs uuid 3\nchunk uuid a\n';
const DEV = `${HEAD}	item 0 key (1 DEV_EXTENT ${2 * MIB}) itemoff 16235 itemsize 48
		dev extent chunk_tree 3
		chunk_objectid 256 chunk_offset ${50 * MIB} length ${4 * MIB}
	item 1 key (1 DEV_EXTENT ${10 * MIB}) itemoff 16187 itemsize 48
		chunk_objectid 256 chunk_offset ${60 * MIB} length ${MIB}
	item 2 key (1 DEV_EXTENT ${20 * MIB}) itemoff 16187 itemsize 48
		chunk_objectid 256 chunk_offset ${60 * MIB} length ${MIB}`;
const CHUNK = `${HEAD}	item 0 key (DEV_ITEMS DEV_ITEM 1) itemoff 16185 itemsize 98
		devid 1 total_bytes 209715200 bytes_used 92274688
	item 1 key (FIRST_CHUNK_TREE CHUNK_ITEM ${50 * MIB}) itemoff 16105 itemsize 80
		length ${4 * MIB} owner 2 stripe_len 65536 type DATA|single
		io_align 65536 io_width 65536 sector_size 4096
		num_stripes 1 sub_stripes 1
			stripe 0 devid 1 offset ${2 * MIB}
			dev_uuid 8
	item 2 key (FIRST_CHUNK_TREE CHUNK_ITEM ${60 * MIB}) itemoff 15993 itemsize 112
		length ${MIB} owner 2 stripe_len 65536 type METADATA|DUP
		num_stripes 2 sub_stripes 1
			stripe 0 devid 1 offset ${10 * MIB}
			stripe 1 devid 1 offset ${20 * MIB}`;
const EXTENT = `${HEAD}	item 0 key (${50 * MIB + 4096} EXTENT_ITEM 8192) itemoff 16259 itemsize 24
		refs 1 gen 6 flags DATA
	item 1 key (${50 * MIB} BLOCK_GROUP_ITEM ${4 * MIB}) itemoff 16235 itemsize 24
		block group used 8192 chunk_objectid 256 flags DATA|single
	item 2 key (${50 * MIB + 4096} EXTENT_DATA_REF 13835058055282163712) itemoff 16202 itemsize 28
		extent data backref root FS_TREE objectid 257 offset 0 count 40
	item 2 key (${60 * MIB + 32768} METADATA_ITEM 0) itemoff 16202 itemsize 33
		tree block skinny level 0
	item 3 key (${60 * MIB} BLOCK_GROUP_ITEM ${MIB}) itemoff 16235 itemsize 24
		block group used 16384 chunk_objectid 256 flags METADATA|DUP
total bytes 209715200
bytes used 147456`;

function tool(change: Record<string, string> = {}, trees: Partial<Record<string, string>> = {}): RunTool {
  return async (_name, args, line) => {
    const fields = Object.entries({ ...SUPER, ...change }).map(([key, value]) => `${key}\t\t${value}`);
    const all: Record<string, string> = { dev: DEV, chunk: CHUNK, extent: EXTENT, ...trees };
    const said = args[1] === 'dump-super' ? fields.join('\n') : all[args[args.indexOf('-t') + 1]!]!;
    for (const text of said.split('\n')) line(text);
  };
}

const AROUND = [
  { offset: 0, length: MIB },
  { offset: 64 * MIB, length: 4096 },
  { offset: 99 * MIB, length: MIB },
];
const CHUNKS = [
  { offset: 2 * MIB, length: 4 * MIB },
  { offset: 10 * MIB, length: MIB },
  { offset: 20 * MIB, length: MIB },
];

describe('btrfs', () => {
  async function look(run: RunTool) {
    const verdict = await usedOfBtrfs('image', SIZE, run).catch((error: Error) => ({ doubt: error.message }));
    return 'doubt' in verdict ? verdict : { list: [...BlockList.extents(verdict.used)], note: verdict.note };
  }

  it('uses its extents where they are, every copy of them, and its superblocks', async () => {
    const expected = BlockList.extents([
      ...AROUND,
      { offset: 2 * MIB + 4096, length: 8192 },
      { offset: 10 * MIB + 32768, length: 16384 },
      { offset: 20 * MIB + 32768, length: 16384 },
    ]);
    assert.deepEqual(await look(tool()), { list: [...expected], note: undefined });
  });

  it('uses its chunks as a whole where addresses cannot be followed for certain', async () => {
    const whole = [...BlockList.extents([...AROUND, ...CHUNKS])];
    for (const [run, note] of [
      [tool({ log_root: '30' }), /log tree/],
      [tool({}, { chunk: CHUNK.replace('METADATA|DUP', 'METADATA|RAID1') }), /METADATA\|RAID1/],
      [tool({}, { chunk: CHUNK.replace(`offset ${20 * MIB}`, `offset ${30 * MIB}`) }), /differ/],
      [tool({}, { chunk: CHUNK.replace('num_stripes 2', 'num_stripes 3') }), /not understood/],
      [tool({ bytes_used: '8192' }), /add up/],
      [tool({}, { extent: EXTENT.replace('used 8192', 'used 4096') }), /add up/],
      [tool({}, { extent: EXTENT.replace(`(${60 * MIB + 32768} META`, `(${62 * MIB} META`) }), /outside/],
    ] as const) {
      const found = await look(run);
      assert.ok('list' in found);
      assert.deepEqual(found.list, whole);
      assert.match(found.note ?? '', note);
    }
  });

  it('is not believed where anything is not as expected', async () => {
    for (const [run, doubt] of [
      [tool({ csum: "0x1 [DON'T MATCH]" }), /checksum/],
      [tool({ incompat_flags: '0x1341' }), /features/],
      [tool({ compat_ro_flags: '0x13' }), /features/],
      [tool({ log_root: '-1' }), /no log_root/],
      [tool({ 'dev_item.total_bytes': `${101 * MIB}` }), /larger/],
      [tool({}, { dev: HEAD.trimEnd() }), /device tree/],
      // an unreadable node of the tree is passed over by the tool
      [tool({}, { dev: DEV.slice(0, DEV.indexOf('\titem 2')).trimEnd() }), /device tree does not add up/],
      [tool({ num_devices: '2' }), /several devices/],
      [tool({}, { extent: 'parent transid verify failed' }), /btrfs says/],
      [tool({}, { chunk: `${HEAD}\titem 0 key (1 STRANGE_ITEM 1) itemoff 1 itemsize 1` }), /STRANGE_ITEM/],
    ] as const) {
      const found = await look(run);
      assert.ok('doubt' in found, `no doubt: ${doubt}`);
      assert.match(found.doubt, doubt);
    }
  });
});
