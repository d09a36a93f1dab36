import assert from 'node:assert/strict';
import {
  type BackupEvent,
  EventChannel,
  type InvalidBlockEvent,
  MAX_INVALID_WAITING,
  type ProgressEvent,
} from '../../lib/events.js';

const started: BackupEvent = {
  event: 'started',
  id: 'x',
  origin: 'unix:/a',
  startedAt: new Date(0),
  armMs: 1,
  freezeMs: 0,
  size: 1,
  blockSize: 4096,
  listedBlocks: 1,
  listedBytes: 1,
};
const progress = (doneBlocks: number) => ({ event: 'progress', doneBlocks }) as ProgressEvent;
const invalid = (block: number): InvalidBlockEvent => ({
  event: 'invalid-block',
  block,
  extent: { offset: block * 4096, length: 4096 },
  errno: -5,
});
const broken: BackupEvent = { event: 'broken', id: 'x', code: 'ERR_SNAPBAK_BROKEN', message: 'no' };

async function all(events: AsyncIterable<BackupEvent>): Promise<BackupEvent[]> {
  const seen: BackupEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

describe('EventChannel', () => {
  it('tells each reader everything in order, and ends after the last event', async () => {
    const channel = new EventChannel();
    const readers = [channel.reader(), channel.reader()];
    for (const event of [started, progress(1), invalid(7), broken]) channel.push(event);
    channel.push(progress(2));
    for (const reader of readers) {
      assert.deepEqual(await all(reader), [started, progress(1), invalid(7), broken]);
    }
  });

  it('wakes a reader that waits, several next() calls in order', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    const waiting = [reader.next(), reader.next(), reader.next()];
    channel.push(started);
    channel.push(broken);
    assert.deepEqual(
      (await Promise.all(waiting)).map(({ value }) => value?.event),
      ['started', 'broken', undefined],
    );
  });

  it('tells a late reader what happened once, after the start', async () => {
    const hook: BackupEvent = { event: 'hook', hook: 'after-thaw', code: 'ERR_SNAPBAK_HOOK', message: 'no' };
    const lost = { event: 'clone-lost', to: '/a' } as BackupEvent;
    const blocks = (disk: string) => ({ event: 'blocks', disk }) as BackupEvent;
    const channel = new EventChannel();
    for (const event of [started, blocks('a'), progress(1), hook, blocks('b'), lost]) channel.push(event);
    const reader = channel.reader();
    channel.push(broken);
    assert.deepEqual(await all(reader), [started, blocks('a'), hook, blocks('b'), lost, broken]);
  });

  it('tells a late reader the start first, and one after the end the end as well', async () => {
    const channel = new EventChannel();
    channel.push(started);
    channel.push(invalid(1));
    const late = channel.reader();
    channel.push(progress(3));
    channel.push(broken);
    assert.deepEqual(await all(late), [started, progress(3), broken]);
    assert.deepEqual(await all(channel.reader()), [started, broken]);
  });

  it('drops only progress for a slow reader, and keeps the newest', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    channel.push(progress(1));
    channel.push(invalid(1));
    channel.push(progress(2));
    channel.push(broken);
    assert.deepEqual(await all(reader), [invalid(1), progress(2), broken]);
  });

  it('sums spill, throttle and hold for a slow reader, but tells of a lost tier on its own', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    const spill = (blocks: number, totalBlocks: number, lost = false): BackupEvent => ({
      event: 'spill',
      blocks,
      totalBlocks,
      usedBytes: totalBlocks,
      capacityBytes: 9,
      lost,
    });
    channel.push(spill(2, 2));
    channel.push({ event: 'throttle', writes: 1, ms: 5, fill: 0.8 });
    channel.push({ event: 'hold', writes: 1, now: 1, longestMs: 5 });
    channel.push(spill(3, 5));
    channel.push({ event: 'throttle', writes: 2, ms: 6, fill: 0.9 });
    channel.push({ event: 'hold', writes: 4, now: 0, longestMs: 8 });
    channel.push(spill(0, 5, true));
    channel.push(spill(0, 5, true));
    channel.push(spill(1, 6));
    channel.push(spill(2, 8));
    channel.push(broken);
    assert.deepEqual(await all(reader), [
      { event: 'throttle', writes: 3, ms: 11, fill: 0.9 },
      { event: 'hold', writes: 5, now: 0, longestMs: 8 },
      spill(0, 5, true),
      spill(0, 5, true),
      spill(8, 8),
      broken,
    ]);
  });

  it('folds invalid blocks that nobody reads into a number', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    for (let i = 0; i < MAX_INVALID_WAITING + 500; i++) channel.push(invalid(i));
    channel.push(broken);
    const seen = await all(reader);
    assert.equal(seen.length, MAX_INVALID_WAITING + 1);
    assert.deepEqual(seen.at(-2), { ...invalid(MAX_INVALID_WAITING - 1), more: 500 });
  });

  it('tells invalid blocks one by one again when the reader caught up', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    for (let i = 0; i < MAX_INVALID_WAITING; i++) channel.push(invalid(i));
    await reader.next();
    channel.push(invalid(99_999));
    channel.push(broken);
    const seen = await all(reader);
    assert.deepEqual(seen.at(-2), invalid(99_999));
  });

  it('forgets a reader that left its loop', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    channel.push(started);
    for await (const event of reader) {
      assert.equal(event, started);
      break;
    }
    channel.push(progress(1));
    assert.deepEqual(await reader.next(), { done: true, value: undefined });
  });

  it('never takes one disk for another, and tells what was found on each to whoever comes later', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    const hold = (disk: string, writes: number): BackupEvent => ({
      ...{ event: 'hold', disk, writes, now: 0, longestMs: 1 },
    });
    const blocks = (disk: string): BackupEvent => ({
      ...{ event: 'blocks', disk, listedBytes: 1, parts: [], seconds: 0 },
    });
    for (const event of [blocks('a'), blocks('b'), hold('a', 1), hold('b', 2), hold('a', 3)])
      channel.push(event);
    const later = channel.reader();
    channel.push({ event: 'broken', id: 'x', code: 'ERR_SNAPBAK_BROKEN', message: 'why' });
    const seen = [];
    for await (const event of reader) seen.push(event);
    assert.deepEqual(seen.slice(0, -1), [blocks('a'), blocks('b'), hold('b', 2), hold('a', 4)]);
    assert.deepEqual((await later.next()).value, blocks('a'));
    assert.deepEqual((await later.next()).value, blocks('b'));
  });

  it('counts the invalid blocks of a disk with those of the same disk', async () => {
    const channel = new EventChannel();
    const reader = channel.reader();
    const invalid = (disk: string, block: number): BackupEvent => ({
      ...{ event: 'invalid-block', disk, block, extent: { offset: 0, length: 1 }, errno: -5 },
    });
    for (let block = 0; block < MAX_INVALID_WAITING; block++) channel.push(invalid('a', block));
    for (const disk of ['b', 'b', 'a']) channel.push(invalid(disk, 1));
    const more: Record<string, number> = {};
    for (let n = 0; n <= MAX_INVALID_WAITING; n++) {
      const { value } = await reader.next();
      if (value.event !== 'invalid-block') continue;
      more[value.disk!] = (more[value.disk!] ?? 0) + (value.more ?? 0);
    }
    assert.deepEqual(more, { a: 1, b: 1 });
  });
});
