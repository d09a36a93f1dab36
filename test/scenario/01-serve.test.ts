/** The user driver as NBD clients see it: every request, every alignment, restarts, refusals. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { binding } from '../../lib/binding.js';
import { SnapbakError } from '../../lib/errors.js';
import { serve } from '../../lib/serve.js';
import { Cleanup } from '../helpers/cleanup.js';
import { loopDevice } from '../helpers/faulty-device.js';
import { seeded, stamped } from '../helpers/images.js';
import { must, needPrograms, run, start } from '../helpers/programs.js';
import { type StartedServer, startServer } from '../helpers/serve.js';

const MiB = 1 << 20;

describe('a served image', function () {
  this.timeout(120_000);
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  before(() => needPrograms('nbdkit', 'nbdinfo', 'nbdcopy', 'qemu-io', 'fio'));

  async function served(
    image: string | number,
    options: Parameters<typeof startServer>[1] = {},
  ): Promise<StartedServer> {
    const server = await startServer(image, options);
    cleanup.defer('stop the server', () => server.stop());
    return server;
  }

  it('keeps what a model keeps, at every alignment, with FUA, trims and zeroes', async () => {
    const size = 3 * MiB + 1237; // the last block is short, the last sector too
    const server = await served(size);
    const model = Buffer.alloc(size);
    const below = seeded(20_240_501);
    const lengths = [1, 2, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000];
    const commands: string[] = [];
    for (let i = 0; i < 400; i += 1) {
      const length = lengths[below(lengths.length)]!;
      // some writes at the very end
      const offset = i % 16 === 0 ? size - length : below(size - length + 1);
      const byte = 1 + below(255);
      const kind = below(8);
      if (kind < 4) {
        commands.push(`write ${kind === 0 ? '-f ' : ''}-P ${byte} ${offset} ${length}`);
        model.fill(byte, offset, offset + length);
      } else if (kind < 6) {
        const flags = ['', '-u ', '-f ', '-u -f '][below(4)];
        commands.push(`write -z ${flags}${offset} ${length}`);
        model.fill(0, offset, offset + length);
      } else if (kind === 6) {
        // a trimmed range of an image file is a hole, and reads as zeroes
        commands.push(`discard ${offset} ${length}`);
        model.fill(0, offset, offset + length);
      } else {
        commands.push(`read ${offset} ${length}`);
      }
    }
    commands.push('flush');
    await qemuIo(server.uri, commands);
    assert.ok(readFileSync(server.image).equals(model), 'the image is the model');
    const copy = join(cleanup.folder('copy'), 'copy.img');
    await must('nbdcopy', [server.uri, copy]);
    assert.ok(readFileSync(copy).equals(model), 'and what a client reads is it too');
  });

  it('passes verified random writes of fio over four connections', async () => {
    const server = await served(32 * MiB);
    await must('fio', [
      '--name=verify',
      '--ioengine=nbd',
      `--uri=${server.uri}`,
      '--rw=randrw',
      '--bsrange=512-128k',
      '--blockalign=512',
      '--size=8m',
      '--offset_increment=8m',
      '--numjobs=4',
      '--iodepth=8',
      '--verify=crc32c',
      '--do_verify=1',
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--fsync=32',
      '--output-format=terse',
    ]);
  });

  it('says what it can: any alignment, FUA, trim, zeroes, fast zeroes, several connections', async () => {
    const server = await served(5 * MiB + 1);
    const text = await must('nbdinfo', ['--json', server.uri]);
    const info = (JSON.parse(text) as { exports: Record<string, unknown>[] }).exports[0]!;
    assert.equal(info['export-size'], 5 * MiB + 1);
    assert.equal(info.block_minimum ?? info.block_size_minimum, 1);
    assert.equal(info.is_read_only, false);
    for (const can of ['flush', 'fua', 'trim', 'zero', 'fast_zero', 'multi_conn', 'df', 'cache']) {
      assert.equal(info[`can_${can}`], true, `can_${can}`);
    }
  });

  it('tells holes from data', async () => {
    const server = await served(8 * MiB);
    await qemuIo(server.uri, [`write -P 5 ${2 * MiB} ${MiB}`, `write -P 6 ${5 * MiB} 4096`, 'flush']);
    await qemuIo(server.uri, [`discard ${2 * MiB} ${MiB / 2}`]);
    const map = JSON.parse(await must('nbdinfo', ['--map', '--json', server.uri])) as {
      offset: number;
      length: number;
      type: number;
    }[];
    const data = map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset, length]);
    assert.deepEqual(data, [
      [2.5 * MiB, MiB / 2],
      [5 * MiB, 4096],
    ]);
    assert.ok(map.every(({ type }) => type === 0 || type === 3));
    assert.equal(
      map.reduce((sum, { length }) => sum + length, 0),
      8 * MiB,
    );
  });

  it('takes no writes when it is read-only, and serves an image that may not be written', async () => {
    const folder = cleanup.folder('readonly');
    const image = join(folder, 'disk.img');
    writeFileSync(image, stamped(0, MiB, 1), { mode: 0o400 });
    const server = await served(image, { readOnly: true });
    const info = await must('nbdinfo', [server.uri]);
    assert.match(info, /is_read_only: true/);
    const result = await run('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 512', server.uri]);
    assert.notEqual(result.code, 0);
    await must('qemu-io', ['-r', '-f', 'raw', '-c', 'read 1000 5000', server.uri]);
    assert.ok(readFileSync(image).equals(stamped(0, MiB, 1)));
  });

  it('makes both sockets for its user only, from their first moment, whatever the umask is', async () => {
    const folder = cleanup.folder('private');
    const paths = { nbd: join(folder, 'nbd.sock'), control: join(folder, 'control.sock') };
    const seen: Record<string, Set<string>> = { nbd: new Set(), control: new Set() };
    let starting = true;
    const umask = process.umask(0);
    const starts = served(MiB, { folder }).finally(() => {
      starting = false;
      process.umask(umask);
    });
    while (starting) {
      for (const [name, path] of Object.entries(paths)) {
        const mode = lstatSync(path, { throwIfNoEntry: false })?.mode;
        if (mode !== undefined) seen[name]!.add((mode & 0o7777).toString(8));
      }
      await new Promise(setImmediate);
    }
    await starts;
    for (const modes of Object.values(seen)) {
      for (const mode of modes) assert.match(mode, /^[67]00$/, 'nobody else could connect at any time');
    }
    for (const path of Object.values(paths)) assert.equal(lstatSync(path).mode & 0o7777, 0o600);
  });

  it('ends cleanly with a client connected, says nothing, and leaves no socket', async () => {
    const server = await startServer(MiB, { folder: cleanup.folder('stop') });
    const client = await connectedClient(server.nbd);
    cleanup.defer('end the client', () => client.destroy());
    await server.stop();
    assert.deepEqual(server.messages, []);
    assert.equal(existsSync(server.nbd), false);
    assert.equal(existsSync(server.control), false);
    assert.equal(alive(server.pid), false);
  });

  it('killed and started again, it has every flushed and every FUA write', async () => {
    const folder = cleanup.folder('killed');
    const image = join(folder, 'disk.img');
    writeFileSync(image, Buffer.alloc(4 * MiB));
    const model = Buffer.alloc(4 * MiB);
    for (let round = 1; round <= 3; round += 1) {
      const server = await startServer(image, { folder });
      cleanup.defer('stop the server', () => server.stop());
      const offset = round * MiB + 77;
      await qemuIo(server.uri, [
        `write -P ${round} ${offset} 100000`,
        'flush',
        `write -f -P ${round + 100} ${offset + 200_000} 333`,
      ]);
      model.fill(round, offset, offset + 100_000);
      model.fill(round + 100, offset + 200_000, offset + 200_333);
      await server.kill();
      // the sockets that a killed server leaves behind are replaced in the next round
      assert.equal(existsSync(server.control), true);
    }
    assert.ok(readFileSync(image).equals(model));
  });

  it('goes on when the process that started it is killed', async () => {
    const folder = cleanup.folder('orphan');
    const image = join(folder, 'disk.img');
    writeFileSync(image, Buffer.alloc(MiB));
    const script = `
      import { serve } from ${JSON.stringify(new URL('../../lib/serve.ts', import.meta.url).href)};
      const server = await serve(${JSON.stringify({ image, socket: join(folder, 'n'), control: join(folder, 'c') })});
      console.log(JSON.stringify({ pid: server.pid, uri: server.uri }));`;
    const parent = start(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script]);
    const line = await new Promise<string>((resolve, reject) => {
      parent.stdout!.once('data', (data) => resolve(String(data)));
      parent.once('close', () => reject(new Error('the parent ended')));
    });
    const { pid, uri } = JSON.parse(line) as { pid: number; uri: string };
    cleanup.defer('end nbdkit', () => alive(pid) && process.kill(pid, 'SIGKILL'));
    const gone = new Promise((resolve) => parent.once('exit', resolve));
    parent.kill('SIGKILL');
    await gone;
    await qemuIo(uri, ['write -P 9 1000 2000', 'flush', 'read -P 9 1000 2000']);
    // nbdkit has nobody to talk to now, and must not die of that
    await run('qemu-io', ['-f', 'raw', '-c', `read ${2 * MiB} 512`, uri]);
    await qemuIo(uri, ['read -P 9 1000 2000']);
  });

  describe('refuses, and says why', () => {
    async function refused(options: Parameters<typeof serve>[0], code: string, words: RegExp) {
      await assert.rejects(serve(options), (error: unknown) => {
        assert.ok(SnapbakError.is(error), String(error));
        assert.equal(error.code, code);
        assert.match(error.message, words);
        return true;
      });
    }

    it('an image that is not there, is empty, or is a folder', async () => {
      const folder = cleanup.folder('refused');
      const sockets = { socket: join(folder, 'n'), control: join(folder, 'c') };
      await refused({ image: join(folder, 'no'), ...sockets }, 'ERR_SNAPBAK_ORIGIN', /No such file/);
      writeFileSync(join(folder, 'empty'), '');
      await refused({ image: join(folder, 'empty'), ...sockets }, 'ERR_SNAPBAK_ORIGIN', /it is empty/);
      await refused({ image: folder, ...sockets }, 'ERR_SNAPBAK_ORIGIN', /Is a directory/);
      assert.equal(existsSync(sockets.socket), false);
    });

    it('a second server on one image', async () => {
      const server = await served(MiB);
      const folder = cleanup.folder('second');
      const sockets = { socket: join(folder, 'n'), control: join(folder, 'c') };
      await refused({ image: server.image, ...sockets }, 'ERR_SNAPBAK_ORIGIN', /another Snapbak driver/);
    });

    it('a device that another keeps, and not one that somebody only looks at, as udevd does', async () => {
      const device = await loopDevice(cleanup, MiB);
      const other = await open(device, 'r+');
      binding().lockFile(other.fd);
      const folder = cleanup.folder('looked-at');
      const sockets = { socket: join(folder, 'n'), control: join(folder, 'c') };
      await refused({ image: device, ...sockets }, 'ERR_SNAPBAK_ORIGIN', /another Snapbak driver/);
      const looked = delay(300).then(() => other.close());
      const server = await served(device);
      await looked;
      await server.stop();
    });

    it('a socket on which another server listens, and files that are no sockets', async () => {
      const server = await served(MiB);
      const folder = cleanup.folder('taken');
      const image = join(folder, 'disk.img');
      writeFileSync(image, Buffer.alloc(512));
      const free = join(folder, 'free');
      await refused({ image, socket: server.nbd, control: free }, 'ERR_SNAPBAK_ORIGIN', /another server/);
      await refused({ image, socket: free, control: server.control }, 'ERR_SNAPBAK_ORIGIN', /live server/);
      await refused({ image, socket: image, control: free }, 'ERR_SNAPBAK_ORIGIN', /no socket/);
      await refused({ image, socket: free, control: image }, 'ERR_SNAPBAK_ORIGIN', /not a socket/);
      assert.equal(lstatSync(image).size, 512);
      await must('nbdinfo', ['--size', server.uri]);
    });

    it('a missing nbdkit and a missing plugin, with what to install', async () => {
      const folder = cleanup.folder('missing');
      const options = { image: join(folder, 'i'), socket: join(folder, 'n'), control: join(folder, 'c') };
      const { findNbdkit, findPlugin } = await import('../../lib/serve/nbdkit.js');
      const missing = (error: unknown) => SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_MISSING';
      await assert.rejects(
        serve(options, { plugin: () => findPlugin(folder) }),
        (error: Error) => missing(error) && /npm run build:plugin/.test(error.message),
      );
      await assert.rejects(
        serve(options, { nbdkit: () => join(folder, 'nbdkit') }),
        (error: Error) => SnapbakError.is(error) && /ENOENT/.test(error.message),
      );
      assert.match(findNbdkit(''), /\/nbdkit$/, 'found without a PATH, too');
    });

    it('a signal that was aborted before, and ends at whatever moment it is aborted later', async () => {
      const folder = cleanup.folder('aborted');
      const image = join(folder, 'disk.img');
      writeFileSync(image, Buffer.alloc(512));
      const options = { image, socket: join(folder, 'n'), control: join(folder, 'c') };
      await refused({ ...options, signal: AbortSignal.abort() }, 'ERR_SNAPBAK_ABORTED', /aborted/);
      // at any moment: before nbdkit is there, while it starts, when it serves
      for (const delayMs of [0, 0, 0, 5, 10, 20, 30, 40, 60, 200]) {
        const abort = new AbortController();
        const outcome = serve({ ...options, signal: abort.signal }).then(
          (server) => server.exited.then(({ asked }) => assert.equal(asked, true)),
          (error) => assert.equal((error as SnapbakError).code, 'ERR_SNAPBAK_ABORTED'),
        );
        if (delayMs > 0) await delay(delayMs);
        abort.abort();
        await outcome;
      }
      // ... and when it never comes up
      const stuck = join(folder, 'nbdkit');
      writeFileSync(stuck, '#!/bin/sh\nexec sleep 60\n', { mode: 0o700 });
      const abort = new AbortController();
      const starting = assert.rejects(
        serve({ ...options, signal: abort.signal }, { nbdkit: () => stuck }),
        (error: Error) => SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_ABORTED',
      );
      await delay(50);
      abort.abort();
      await starting;
      assert.equal(existsSync(options.socket), false);
      assert.equal(existsSync(options.control), false);
    });

    it('arguments that are none', async () => {
      const good = { image: '/i', socket: '/n', control: '/c' };
      const bad = (options: object) => serve({ ...good, ...options } as typeof good);
      await assert.rejects(bad({ image: 5 }), /options.image must be a string, not 5/);
      await assert.rejects(bad({ image: '' }), RangeError);
      await assert.rejects(bad({ socket: `/${'x'.repeat(107)}` }), /at most 107 bytes/);
      await assert.rejects(bad({ socket: '/c' }), /must differ/);
      await assert.rejects(bad({ readonly: true }), /readonly is not an option/);
    });
  });
});

/** A client that has finished its handshake and sends no request. */
async function connectedClient(path: string): Promise<Socket> {
  const socket = createConnection(path);
  await once(socket, 'data'); // the greeting
  const exportName = [...Buffer.from('IHAVEOPT'), 0, 0, 0, 1, 0, 0, 0, 0];
  socket.write(Buffer.from([0, 0, 0, 3, ...exportName]));
  await once(socket, 'data'); // size and flags: from here on it could write
  return socket;
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function qemuIo(uri: string, commands: string[]): Promise<void> {
  // commands in pieces: the whole list does not fit on one command line of every system
  for (let i = 0; i < commands.length; i += 100) {
    const args = commands.slice(i, i + 100).flatMap((command) => ['-c', command]);
    const output = await must('qemu-io', ['-f', 'raw', '-d', 'unmap', ...args, uri]);
    assert.doesNotMatch(output, /failed|error|invalid/i);
  }
}
