// A clone that is made beside a backup and used meanwhile: by fio, qemu-img and clients of our own, under a writer,
// through failures of the clone and of the program.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { directoryTarget, openOrigin, startBackup } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliEvent, type CliRun, expectExit, snapbak, told } from '../helpers/cli.js';
import { loopDevice, smallTmpfs } from '../helpers/faulty-device.js';
import { expectSame, seeded } from '../helpers/images.js';
import { startLoad } from '../helpers/load.js';
import { NbdClient } from '../helpers/nbd-client.js';
import { must, needPrograms, run } from '../helpers/programs.js';
import {
  qemuIo,
  restored,
  type ServedImage,
  saysComplete,
  serveImage,
  startBackup as startCommand,
  untilIdle,
} from '../helpers/served-image.js';

const MiB = 2 ** 20;
const SIZE = 32 * MiB + 512; // a last block of its own size

/** How the clone ended, in the last event of a backup. */
function stateOf(event: CliEvent | undefined): unknown {
  return (event?.clone as { state?: unknown } | undefined)?.state;
}

describe('a clone that is used while it is made', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let instant: string;
  let to: string;
  let socket: string;
  let directory: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: SIZE });
    instant = join(served.folder, 'instant.img');
    to = join(served.folder, 'clone.img');
    socket = join(served.folder, 'clone.sock');
    directory = join(served.folder, 'backup');
    await copyFile(served.image, instant);
  });
  afterEach(() => cleanup.run());

  const start = (...options: string[]): CliRun =>
    startCommand(cleanup, served.origin, directory, '--clone-to', to, ...options);
  const connect = async () => {
    const client = await NbdClient.connect(socket);
    cleanup.defer('close the client', () => client.close());
    return client;
  };

  it('has the first megabyte and any other long before their turn, and is the instant to qemu-img', async () => {
    needPrograms('qemu-img');
    const backup = start('--clone-export', socket, '--rate', '256K', '--latency-goal', 'none');
    await backup.event('started');
    const client = await connect();
    const times: number[] = [];
    for (const at of [0, 31 * MiB, 20 * MiB, 27 * MiB]) {
      const began = performance.now();
      await client.read(at, MiB);
      times.push(Math.round(performance.now() - began));
    }
    // others may take the machine for a second, but not each time
    assert.ok(times.filter((ms) => ms < 1000).length >= 3, `milliseconds: ${times}`);
    const { doneBytes } = await backup.event('progress', (event) => Number(event.doneBytes) >= 4 * MiB);
    assert.ok(Number(doneBytes) < SIZE / 2, 'the backup was as fast as that');
    const load = startLoad(cleanup, served.uri, { size: SIZE - 512, bytes: 12 * MiB, rate: 8 * MiB });
    const { uri } = await backup.event('clone');
    const compared = await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', String(uri), instant]);
    assert.match(compared, /identical/);
    assert.equal(stateOf(await backup.event('finished')), 'complete');
    await load.verified();
    await expectSame(join(directory, 'data.img'), instant);
    assert.match(
      await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', String(uri), instant]),
      /identical/,
      'it is served after the backup, too',
    );
    backup.child.kill('SIGTERM');
    const { events } = await expectExit(0, backup.finished);
    assert.equal(events.at(-1)?.event, 'clone-closed');
    await expectSame(to, instant);
    assert.equal(statSync(to).mode & 0o777, 0o600);
  });

  it('keeps what fio and other clients write while it is made, and takes the rest from the instant', async () => {
    const backup = start('--clone-export', socket, '--rate', '8M', '--latency-goal', 'none');
    await backup.event('started');
    const load = startLoad(cleanup, served.uri, { size: SIZE - 512, bytes: 16 * MiB, rate: 8 * MiB });
    const uri = String((await backup.event('clone')).uri);
    const onClone = startLoad(cleanup, uri, { size: 8 * MiB, bytes: 8 * MiB, rate: 4 * MiB });
    const model = readFileSync(instant);
    const client = await connect();
    const below = seeded(41);
    const wrote = { before: 0, after: 0 };
    const write = async (at: number, length: number, byte: number) => {
      const done = Number(backup.events.findLast(({ event }) => event === 'progress')?.doneBytes ?? 0);
      wrote[done < at ? 'before' : 'after'] += 1;
      await client.write(at, Buffer.alloc(length, byte), { fua: byte % 16 === 0 });
      model.fill(byte, at, at + length);
    };
    for (let i = 0; i < 120; i += 1) {
      const length = 1 + below(200_000);
      await write(8 * MiB + below(SIZE - 8 * MiB - length), length, 1 + below(255));
      const at = 8 * MiB + below(SIZE - 8 * MiB - length);
      const got = await client.read(at, length);
      assert.ok(got.equals(model.subarray(at, at + length)), `[${at}, ${at + length}) is not what it was`);
    }
    assert.ok(wrote.before > 10, 'all was there before it was written');
    await onClone.verified();
    await load.verified();
    const { clone } = await backup.event('finished');
    const { state, stats } = clone as { state: string; stats: { writtenBlocks: number; demands: number } };
    assert.equal(state, 'complete');
    assert.ok(stats.writtenBlocks > 0 && stats.demands > 0, JSON.stringify(stats));
    backup.child.kill('SIGINT');
    await expectExit(0, backup.finished);
    await expectSame(join(directory, 'data.img'), instant); // clients of the clone change no backup
    const now = readFileSync(to);
    assert.equal(now.length, SIZE);
    assert.ok(now.subarray(8 * MiB).equals(model.subarray(8 * MiB)));
  });

  it('is whole without clients too, on a device, for the blocks that are listed', async () => {
    const device = await loopDevice(cleanup, SIZE + 7 * 512);
    const old = Buffer.alloc(SIZE, 0xee);
    writeFileSync(device, old);
    const list = join(served.folder, 'list');
    writeFileSync(list, '0 16M\n24M 4M\n');
    to = device;
    const { events } = await expectExit(0, start('--blocks', list).finished);
    assert.equal(stateOf(events.at(-1)), 'complete');
    const start16 = readFileSync(instant);
    for (const [from, end] of [
      [0, 16 * MiB],
      [24 * MiB, 28 * MiB],
    ] as const) {
      start16.copy(old, from, from, end);
    }
    const now = readFileSync(device).subarray(0, SIZE);
    assert.ok(now.equals(old), 'a device keeps what the block list does not name');
  });

  it('that runs full is given up, and the backup is good: exit status 5', async () => {
    to = join(await smallTmpfs(cleanup, 12 * MiB), 'clone.img');
    const backup = start('--clone-export', socket, '--rate', '24M', '--latency-goal', 'none');
    await backup.event('started');
    const client = await connect();
    const lost = await backup.event('clone-lost');
    assert.deepEqual([lost.code, lost.to], ['ERR_SNAPBAK_CLONE', to]);
    assert.match(String(lost.message), /ENOSPC/);
    await assert.rejects(client.read(SIZE - 512, 512));
    const { events } = await expectExit(5, backup.finished);
    assert.equal(stateOf(events.at(-1)), 'lost');
    assert.equal(await saysComplete(directory), true);
    await expectSame(await restored(directory), instant);
    assert.notEqual((await run('nbdinfo', [String((await backup.event('clone')).uri)])).code, 0);
  });

  it('ends with a backup that is stopped, or killed: clients that wait get an error', async () => {
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const backup = start('--clone-export', socket, '--rate', '64K', '--latency-goal', 'none', '--force');
      await backup.event('started');
      const client = await connect();
      await client.write(5 * MiB, Buffer.alloc(MiB, 7), { fua: true });
      // many, so that some wait when it ends
      const reads = Array.from({ length: 200 }, (_, i) => client.read((i % 31) * MiB + MiB / 2, MiB));
      const ends = Promise.allSettled(reads);
      const { code } = await backup.kill(signal);
      assert.equal(code, signal === 'SIGINT' ? 3 : null, told(await backup.finished));
      await ends; // none hangs
      assert.equal(await saysComplete(directory), false);
      await untilIdle(served.origin);
      assert.ok(
        readFileSync(to)
          .subarray(5 * MiB, 6 * MiB)
          .every((byte) => byte === 7),
        'clients may want it',
      );
      directory += '-again';
    }
    to = join(served.folder, 'other.img');
    const unseen = start('--rate', '64K');
    await unseen.event('started');
    await unseen.kill('SIGINT');
    assert.equal(existsSync(to), false, 'nobody can mistake it for a whole one');
    await qemuIo(served.uri, 'write -P 1 0 1M', 'flush');
  });

  it('is served until it is closed, whatever the signal of the backup says after its end', async () => {
    const origin = await openOrigin(served.origin);
    cleanup.defer('close the origin', () => origin.close());
    const controller = new AbortController();
    const { signal } = controller;
    const target = directoryTarget(directory);
    const backup = await startBackup({ origin, target, clone: { to, socket }, signal });
    cleanup.defer('close the clone', () => backup.clone!.close());
    await backup.finished;
    const client = await connect();
    controller.abort();
    await qemuIo(backup.clone!.uri!, 'write -P 9 1M 1M', 'flush', 'read -P 9 1M 1M');
    assert.ok((await client.read(MiB, MiB)).every((byte) => byte === 9));
    await client.close();
    await backup.clone!.close();
    assert.equal((await backup.clone!.exited)!.asked, true);
  });

  it('that fails while it is served after the backup ends, with exit status 5', async () => {
    // a device that has room for what is listed, and not for what its client writes then
    to = await loopDevice(cleanup, SIZE, join(await smallTmpfs(cleanup, 20 * MiB), 'content'));
    const list = join(served.folder, 'list');
    writeFileSync(list, '0 8M\n');
    const backup = start('--clone-export', socket, '--blocks', list);
    assert.equal(stateOf(await backup.event('finished')), 'complete');
    const client = await connect();
    await assert.rejects(client.write(8 * MiB, Buffer.alloc(16 * MiB, 7), { fua: true }));
    const { events } = await expectExit(5, backup.finished);
    assert.match(String(events.at(-1)?.message), /the clone of .* was given up/);
    assert.equal(await saysComplete(directory), true);
  });

  it('is refused on the origin, the target and what holds something, in words', async () => {
    const origin = await openOrigin(served.origin);
    cleanup.defer('close the origin', () => origin.close());
    const target = directoryTarget(directory);
    const refused = async (clone: { to: string; force?: boolean }, words: RegExp) => {
      await assert.rejects(startBackup({ origin, target, clone }), {
        code: 'ERR_SNAPBAK_CLONE',
        message: words,
      });
      assert.equal(existsSync(directory), false);
    };
    await refused({ to: served.image, force: true }, /is the origin itself/);
    await refused({ to: join(directory, 'data.img'), force: true }, /is part of the backup itself/);
    await refused({ to: instant }, /exists and holds/);
    const device = await loopDevice(cleanup, SIZE - 512);
    await refused({ to: device }, /is too small/);
    await expectSame(served.image, instant);
    const usage = await snapbak('backup', served.origin, directory, '--clone-export', socket);
    assert.equal(usage.code, 2);
    assert.match(usage.stderr, /--clone-to/);
  });
});
