import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { usedBlocksOf } from '../../../../lib/blocks/used/compile.js';
import { openFileSource } from '../../../../lib/blocks/used/source.js';
import { runTool } from '../../../../lib/blocks/used/tool.js';
import { usedBlocks } from '../../../../lib/blocks/used/used-blocks.js';
import { LOG_CHANNEL, type LogRecord } from '../../../../lib/diagnostics.js';
import { SnapbakError } from '../../../../lib/errors.js';
import { Cleanup } from '../../../helpers/cleanup.js';

describe('usedBlocks', () => {
  let cleanup: Cleanup;
  let image: string;
  beforeEach(() => {
    cleanup = new Cleanup();
    image = join(cleanup.folder('used'), 'image');
    writeFileSync(image, Buffer.alloc(100_000, 7));
  });
  afterEach(() => cleanup.run());

  it('lists in full what it does not know, and says so in the log', async () => {
    const records: LogRecord[] = [];
    const listen = (message: unknown) => records.push(message as LogRecord);
    subscribe(LOG_CHANNEL, listen);
    cleanup.defer('unsubscribe', () => unsubscribe(LOG_CHANNEL, listen));
    const { list, parts } = await usedBlocks(image);
    assert.equal(list.toText(), '0 100000\n');
    const part = {
      offset: 0,
      length: 100_000,
      what: 'unknown',
      bytes: 100_000,
      full: true,
      reason: 'nothing on it is known',
    };
    assert.deepEqual(parts, [part]);
    assert.equal(records.length, 1);
    assert.equal(records[0]!.level, 'warn');
    assert.match(records[0]!.message, /listed in full: nothing on it is known/);
  });

  it('is empty for an empty file', async () => {
    writeFileSync(image, '');
    assert.deepEqual((await usedBlocks(image)).parts, []);
  });

  it('lists in full what was written to while it was read', async () => {
    await using source = await openFileSource(image);
    appendFileSync(image, 'x');
    const { parts } = await usedBlocksOf(source);
    assert.match(parts[0]!.reason ?? '', /written to/);
  });

  it('lists in full what was replaced: the tools of file systems know it by its name', async () => {
    await using source = await openFileSource(image);
    writeFileSync(`${image}-new`, Buffer.alloc(100_000, 8));
    renameSync(`${image}-new`, image);
    const { parts } = await usedBlocksOf(source);
    assert.match(parts[0]!.reason ?? '', /replaced by another of its name/);
    rmSync(image);
    assert.match((await usedBlocksOf(source)).parts[0]!.reason ?? '', /replaced/);
  });

  it('lists in full what a loop device shows', async () => {
    const sys = cleanup.folder('sys');
    mkdirSync(join(sys, 'loop7/loop'), { recursive: true });
    writeFileSync(join(sys, 'loop7/loop/backing_file'), `${image}\n`);
    await using source = await openFileSource(image, sys);
    const { parts } = await usedBlocksOf(source);
    assert.match(parts[0]!.reason ?? '', /\/dev\/loop7/);
  });

  it('refuses what is no image', async () => {
    const refused = (error: unknown) => SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_BLOCK_LIST';
    await assert.rejects(usedBlocks('/nonexistent/image'), refused);
    await assert.rejects(usedBlocks('/dev/null'), refused);
    await assert.rejects(usedBlocks(cleanup.folder('used')), refused);
    await assert.rejects(usedBlocks(7 as never), TypeError);
  });
});

describe('a tool of a file system', () => {
  it('that is missing, fails, or says what is not understood is told of', async () => {
    const none = () => {};
    await assert.rejects(runTool('no-such-tool', [], none), /no-such-tool is not installed/);
    await assert.rejects(runTool('sh', ['-c', 'echo why >&2; exit 3'], none), /exit status 3: why/);
    const strict = () => {
      throw new Error('not understood');
    };
    await assert.rejects(runTool('sh', ['-c', 'echo a; sleep 60'], strict), /not understood/);
  });
});
