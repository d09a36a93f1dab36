import assert from 'node:assert/strict';
import { backupView, barText, meterText } from '../../../lib/cli/backup-view.js';
import { Output } from '../../../lib/cli/output.js';
import type { BackupEvent } from '../../../lib/events.js';
import { STANDSTILL, toStats } from '../../../lib/stats.js';
import { FakeSession } from '../../helpers/fake-session.js';
import { TextSink } from '../../helpers/text-sink.js';

const MiB = 2 ** 20;

function stats(seconds: number, doneBlocks = 8) {
  const session = new FakeSession();
  session.figures = { listedBlocks: 32, doneBlocks, slotsTotal: 10, slotsUsed: 5 };
  session.counters = { captured: 3, delayed: 2, held: 4, heldNow: 1 };
  return toStats(session.stats(), 65_536, seconds, { ...STANDSTILL, done: MiB });
}

const started: BackupEvent = {
  event: 'started',
  id: 'an-id',
  origin: 'unix:/run/x',
  startedAt: new Date(Date.UTC(2030, 0, 1)),
  armMs: 0.12345,
  freezeMs: 0,
  size: 4 * MiB,
  blockSize: 65_536,
  listedBlocks: 32,
  listedBytes: 2 * MiB,
};

function setup(json: boolean) {
  const out = new TextSink();
  const err = new TextSink();
  return { out, err, view: backupView(new Output(out, err), json) };
}

describe('the view of a backup', () => {
  it('is one JSON object a line with --json, dates as text', () => {
    const { out, err, view } = setup(true);
    view.show(started);
    view.show({ event: 'progress', ...stats(1) });
    view.end();
    assert.deepEqual(
      out.events.map(({ event }) => event),
      ['started', 'progress'],
    );
    assert.equal(out.events[0]?.startedAt, '2030-01-01T00:00:00.000Z');
    assert.equal(err.text, '');
  });

  it('is a line every five seconds in a log', () => {
    const { out, err, view } = setup(false);
    view.show(started);
    for (let s = 0; s <= 12; s += 0.25) view.show({ event: 'progress', ...stats(s) });
    view.end();
    assert.match(out.text, /^started 2030-01-01T00:00:00.000Z: the backup is unix:\/run\/x/);
    assert.match(out.text, /2 MiB of 4 MiB in blocks of 64 KiB/);
    assert.equal(err.lines.length, 2);
    assert.match(err.lines[0]!, /^25% 512 KiB of 2 MiB, 1 MiB\/s, 1.5 s left \| container 50% \|/);
  });

  it('says that a hook failed, and what hooks say, on standard error', () => {
    for (const json of [false, true]) {
      const { out, err, view } = setup(json);
      view.note('hook: checkpoint done');
      view.show({ event: 'hook', hook: 'after-thaw', code: 'ERR_SNAPBAK_HOOK', message: 'no connection' });
      assert.equal(err.lines[0], 'hook: checkpoint done');
      if (json) assert.equal(out.events[0]?.message, 'no connection');
      else assert.equal(err.lines[1], 'snapbak: no connection');
    }
  });

  it('tells in the end for how long file systems were frozen, if they were', () => {
    const end = { id: 'x', state: 'complete', invalidBlocks: 0, seconds: 2 } as const;
    for (const freezeMs of [0, 12.5]) {
      const { out, view } = setup(false);
      view.show({ event: 'finished', ...end, stats: { ...stats(2, 32), armMs: 1, freezeMs } });
      assert.equal(/file systems were frozen for 12.5 ms/.test(out.text), freezeMs > 0);
    }
  });

  it('shows what writers meet', () => {
    assert.match(meterText(stats(1)), /3 captured, 2 delayed, 4 held \(1 now\)$/);
    assert.equal(barText(stats(1)), '1 MiB/s 2 s left | fill 50% | 3 captured 2 delayed 4 held');
  });

  it('tells the first ten invalid blocks, a lost tier, and the end', () => {
    const { out, err, view } = setup(false);
    for (let block = 0; block < 50; block++) {
      view.show({ event: 'invalid-block', block, extent: { offset: block, length: 1 }, errno: -5 });
    }
    const tier = { blocks: 0, totalBlocks: 0, usedBytes: 0, capacityBytes: 1 };
    view.show({ event: 'spill', ...tier, lost: false });
    view.show({ event: 'spill', ...tier, lost: true, errno: -5, tier: 'file /a' });
    const end = { id: 'x', state: 'complete-with-invalid-blocks', invalidBlocks: 50, seconds: 2 } as const;
    view.show({ event: 'finished', ...end, stats: stats(2, 32) });
    assert.equal(err.lines.length, 11);
    assert.match(err.lines[9]!, /EIO.*further ones are counted only/);
    assert.match(
      err.lines[10]!,
      /second tier of the container, file \/a, failed \(EIO\) and was given up; what is left/,
    );
    assert.match(out.text, /complete-with-invalid-blocks: 2 MiB in 2 s, 1 MiB\/s/);
    assert.match(out.text, /50 blocks could not be read/);
  });

  it('shows several disks: at the start, how far each is, the end of each, and what is about one', () => {
    const { out, err, view } = setup(false);
    const disk = {
      origin: 'unix:/run/x',
      size: 4 * MiB,
      listedBlocks: 32,
      listedBytes: 2 * MiB,
      armMs: 0,
      freezeMs: 0,
    };
    view.show({ ...started, disks: ['a', 'b'].map((name) => ({ ...disk, name })) });
    const disks = [
      { name: 'a', state: 'running', stats: stats(6) },
      { name: 'b', state: 'broken', stats: stats(6, 16) },
    ] as const;
    view.show({ event: 'progress', ...stats(6), disks: [...disks] });
    view.show({
      event: 'invalid-block',
      disk: 'a',
      block: 0,
      extent: { offset: 0, length: 65_536 },
      errno: -5,
    });
    view.show({ event: 'disk', id: 'an-id', disk: 'a', state: 'copied', invalidBlocks: 1, seconds: 7 });
    view.show({
      event: 'disk',
      id: 'an-id',
      disk: 'b',
      state: 'broken',
      code: 'X',
      message: 'its driver is gone',
    });
    view.end();
    assert.match(out.text, / {2}a: unix:\/run\/x, 2 MiB of 4 MiB\n {2}b: unix/);
    assert.match(err.lines[0]!, / \| a 25% b broke$/);
    assert.match(barText({ ...stats(6), disks: [...disks] }), / \| a 25% b broke$/);
    assert.match(err.text, /snapbak: a: cannot read the block at 0/);
    assert.match(out.text, / {2}a: copied in 7 s, 1 blocks could not be read\n/);
    assert.match(out.text, / {2}b: broke; the others go on: its driver is gone\n/);
  });
});
