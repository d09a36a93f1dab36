// Whatever is put in wrongly gets an error that names it, the right exit
// status, and does no harm.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, cp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { openEmbedded, openOrigin, SnapbakError } from '../../lib/index.js';
import { Cleanup } from '../helpers/cleanup.js';
import { type CliResult, snapbak, told } from '../helpers/cli.js';
import { expectSame, makeImage } from '../helpers/images.js';
import { type ServedImage, serveImage } from '../helpers/served-image.js';

const MiB = 1 << 20;

/** The code of the last `error` (or `broken`) event. */
function errorCode(result: CliResult): unknown {
  return result.events.findLast((event) => event.event === 'error' || event.event === 'broken')?.code;
}

describe('bad input to the command line', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let folder: string;
  before(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: 4 * MiB });
    folder = cleanup.folder('bad-input');
    await writeFile(join(folder, 'blocks'), '0 65536\n131072\n');
    await writeFile(join(folder, 'beyond'), '0 65536\n1G 64K\n');
  });
  after(() => cleanup.run());

  const usage: [string, (served: ServedImage, folder: string) => string[]][] = [
    ['an unknown command', () => ['frobnicate']],
    ['an unknown option', ({ origin }, at) => ['backup', origin, `${at}/b`, '--frobnicate']],
    ['a backup without a directory', ({ origin }) => ['backup', origin]],
    ['one argument too many', (_, at) => ['verify', at, 'more']],
    ['an origin of no known form', (_, at) => ['backup', 'tcp:example', `${at}/b`]],
    ['an empty socket path', (_, at) => ['backup', 'unix:', `${at}/b`]],
    ['a block size of 1000', ({ origin }, at) => ['backup', origin, `${at}/b`, '--block-size', '1000']],
    ['a block size of 2 MiB', ({ origin }, at) => ['backup', origin, `${at}/b`, '--block-size', '2M']],
    ['a rate of rubbish', ({ origin }, at) => ['backup', origin, `${at}/b`, '--rate', 'fast']],
    ['a negative rate', ({ origin }, at) => ['backup', origin, `${at}/b`, '--rate=-1']],
    ['a rate of zero', ({ origin }, at) => ['backup', origin, `${at}/b`, '--rate', '0']],
    ['a hold timeout of zero', ({ origin }, at) => ['backup', origin, `${at}/b`, '--hold-timeout', '0']],
    ['a hold timeout of a week', ({ origin }, at) => ['backup', origin, `${at}/b`, '--hold-timeout', '7d']],
    ['an unknown policy', ({ origin }, at) => ['backup', origin, `${at}/b`, '--on-full', 'panic']],
    [
      'a container of no known kind',
      ({ origin }, at) => ['backup', origin, `${at}/b`, '--container', 'tape:1G'],
    ],
    [
      'a container without a size',
      ({ origin }, at) => ['backup', origin, `${at}/b`, '--container', 'memory:'],
    ],
    [
      'a file container without a size',
      ({ origin }, at) => ['backup', origin, `${at}/b`, '--container', 'file:/x'],
    ],
    ['serving without sockets', ({ image }) => ['serve', image]],
    ['a restore without a place', (_, at) => ['restore', at]],
  ];
  for (const [name, args] of usage) {
    it(`${name}: exit status 2, and the message names it`, async () => {
      const result = await snapbak(...args(served, folder));
      assert.equal(result.code, 2, told(result));
      assert.match(result.stderr, /\S/, 'it says nothing');
      assert.doesNotMatch(result.stderr, /^\s+at /m, 'it shows a stack');
      assert.equal(existsSync(join(folder, 'b')), false, 'it left something behind');
    });
  }

  const failing: [string, string, (served: ServedImage, folder: string) => string[]][] = [
    ['a socket that is not there', 'ERR_SNAPBAK_ORIGIN', (_, at) => ['backup', `unix:${at}/none`, `${at}/b`]],
    [
      'the NBD socket for the control socket',
      'ERR_SNAPBAK_PROTOCOL',
      (s, at) => ['backup', `unix:${s.nbdSocket}`, `${at}/b`],
    ],
    ['a file for the socket', 'ERR_SNAPBAK_ORIGIN', (_, at) => ['backup', `unix:${at}/blocks`, `${at}/b`]],
    [
      'a directory below one that is not there',
      'ERR_SNAPBAK_TARGET_REFUSED',
      (s, at) => ['backup', s.origin, `${at}/no/such/b`],
    ],
    [
      'a file for the directory',
      'ERR_SNAPBAK_TARGET_REFUSED',
      (s, at) => ['backup', s.origin, `${at}/blocks`],
    ],
    ['a directory that is not empty', 'ERR_SNAPBAK_TARGET_REFUSED', (s, at) => ['backup', s.origin, at]],
    [
      'a block list that is not well formed',
      'ERR_SNAPBAK_BLOCK_LIST',
      (s, at) => ['backup', s.origin, `${at}/b`, '--blocks', `${at}/blocks`],
    ],
    [
      'a block list that is not there',
      'ERR_SNAPBAK_BLOCK_LIST',
      (s, at) => ['backup', s.origin, `${at}/b`, '--blocks', `${at}/none`],
    ],
    ['the status of nothing', 'ERR_SNAPBAK_ORIGIN', (_, at) => ['status', `unix:${at}/none`]],
    ['the verification of nothing', 'ERR_SNAPBAK_MANIFEST', (_, at) => ['verify', `${at}/none`]],
    ['the inspection of nothing', 'ERR_SNAPBAK_MANIFEST', (_, at) => ['inspect', `${at}/none`]],
    ['the restore of nothing', 'ERR_SNAPBAK_MANIFEST', (_, at) => ['restore', `${at}/none`, `${at}/r`]],
  ];
  for (const [name, code, args] of failing) {
    it(`${name}: exit status 1 and ${code}`, async () => {
      const result = await snapbak(...args(served, folder), '--json');
      assert.equal(result.code, 1, told(result));
      assert.equal(errorCode(result), code, told(result));
      assert.equal(existsSync(join(folder, 'b')), false, 'it left something behind');
      assert.equal(existsSync(join(folder, 'r')), false, 'it left something behind');
    });
  }

  it('a block list beyond the end of the origin is refused', async () => {
    const list = join(folder, 'beyond');
    const result = await snapbak('backup', served.origin, join(folder, 'b'), '--blocks', list, '--json');
    assert.ok(result.code === 1 || result.code === 2, told(result));
    assert.match(result.stdout + result.stderr, /end/);
    assert.equal(existsSync(join(folder, 'b')), false, 'it left something behind');
  });

  it('leaves the origin without a session after all of it', async () => {
    const result = await snapbak('backup', served.origin, join(folder, 'fine'));
    assert.equal(result.code, 0, told(result));
  });
});

describe('a backup that somebody touched', () => {
  let cleanup: Cleanup;
  let good: string;
  let folder: string;
  let image: string;
  before(async () => {
    cleanup = new Cleanup();
    const served = await serveImage(cleanup, { size: 4 * MiB + 512 });
    image = join(served.folder, 'start.img');
    await copyFile(served.image, image);
    good = join(served.folder, 'good');
    assert.equal((await snapbak('backup', served.origin, good)).code, 0);
    folder = cleanup.folder('touched');
  });
  after(() => cleanup.run());

  /** A copy of the good backup, to be spoilt. */
  async function copyOf(name: string): Promise<string> {
    const directory = join(folder, name.replaceAll(/[^a-z0-9]+/g, '-'));
    await cp(good, directory, { recursive: true });
    return directory;
  }

  async function flip(path: string, at: number): Promise<void> {
    const file = await open(path, 'r+');
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    byte[0]! ^= 0x10;
    await file.write(byte, 0, 1, at);
    await file.close();
  }

  async function edit(directory: string, change: (manifest: Record<string, unknown>) => void): Promise<void> {
    const path = join(directory, 'manifest.json');
    const manifest = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
    change(manifest);
    await writeFile(path, JSON.stringify(manifest));
  }

  it('is good as long as nobody did', async () => {
    const directory = await copyOf('untouched');
    assert.equal((await snapbak('verify', directory)).code, 0);
    assert.equal((await snapbak('restore', directory, join(folder, 'untouched.img'))).code, 0);
    await expectSame(join(folder, 'untouched.img'), image);
  });

  const spoilt: [string, string, (directory: string) => Promise<void>][] = [
    ['a manifest cut off', 'ERR_SNAPBAK_MANIFEST', (at) => truncate(join(at, 'manifest.json'), 200)],
    ['an empty manifest', 'ERR_SNAPBAK_MANIFEST', (at) => truncate(join(at, 'manifest.json'), 0)],
    ['no manifest', 'ERR_SNAPBAK_MANIFEST', (at) => rm(join(at, 'manifest.json'))],
    [
      'a foreign manifest',
      'ERR_SNAPBAK_MANIFEST',
      (at) => writeFile(join(at, 'manifest.json'), '{"name":"other"}'),
    ],
    [
      'a manifest of a newer version',
      'ERR_SNAPBAK_MANIFEST',
      (at) => edit(at, (m) => Object.assign(m, { formatVersion: 2 })),
    ],
    [
      'a manifest of a larger device',
      'ERR_SNAPBAK_MANIFEST',
      (at) => edit(at, (m) => Object.assign(m, { size: 8 * MiB })),
    ],
    [
      'a manifest with a name that leads away',
      'ERR_SNAPBAK_MANIFEST',
      (at) => edit(at, (m) => Object.assign(m, { image: { kind: 'file', name: '../good/data.img' } })),
    ],
    [
      'a manifest of a broken backup',
      'ERR_SNAPBAK_INCOMPLETE',
      (at) => edit(at, (m) => Object.assign(m, { state: 'broken' })),
    ],
    [
      'a flipped bit in the image',
      'ERR_SNAPBAK_CORRUPT',
      (at) => flip(join(at, 'data.img'), 2 * MiB + 12_345),
    ],
    [
      'a flipped bit in the last, shorter block',
      'ERR_SNAPBAK_CORRUPT',
      (at) => flip(join(at, 'data.img'), 4 * MiB + 511),
    ],
    ['a flipped bit in the checksums', 'ERR_SNAPBAK_CORRUPT', (at) => flip(join(at, 'checksums'), 17)],
    ['checksums cut off', 'ERR_SNAPBAK_CORRUPT', (at) => truncate(join(at, 'checksums'), 40)],
    ['an image cut off', 'ERR_SNAPBAK_CORRUPT', (at) => truncate(join(at, 'data.img'), 2 * MiB)],
    ['no image', 'ERR_SNAPBAK_CORRUPT', (at) => rm(join(at, 'data.img'))],
  ];
  for (const [name, code, spoil] of spoilt) {
    it(`${name}: ${code}, exit status 1, and nothing is restored`, async () => {
      const directory = await copyOf(name);
      await spoil(directory);
      const verified = await snapbak('verify', directory, '--json');
      assert.equal(verified.code, 1, told(verified));
      assert.equal(errorCode(verified), code, told(verified));
      const to = `${directory}.img`;
      const result = await snapbak('restore', directory, to, '--json');
      assert.equal(result.code, 1, told(result));
      assert.equal(errorCode(result), code, told(result));
    });
  }

  it('is never the reason to write over something: an existing file is no place to restore to', async () => {
    const to = join(folder, 'precious');
    await writeFile(to, 'precious');
    const result = await snapbak('restore', good, to, '--json');
    assert.equal(result.code, 1, told(result));
    assert.equal(await readFile(to, 'utf8'), 'precious');
  });
});

describe('a control socket that speaks rubbish', () => {
  let cleanup: Cleanup;
  let folder: string;
  before(() => {
    cleanup = new Cleanup();
    folder = cleanup.folder('rubbish');
  });
  after(() => cleanup.run());

  const rubbish: [string, (server: Server) => void][] = [
    ['closes at once', (server) => server.on('connection', (socket) => socket.destroy())],
    [
      'sends a greeting of its own',
      (server) =>
        server.on('connection', (socket) =>
          socket
            .on('error', () => {})
            .resume()
            .end('SSH-2.0-OpenSSH\r\n'),
        ),
    ],
    [
      'answers with zeroes',
      (server) =>
        server.on('connection', (socket) => {
          socket.on('error', () => {});
          socket.on('data', () => socket.write(Buffer.alloc(4096)));
        }),
    ],
    [
      'answers with ones',
      (server) =>
        server.on('connection', (socket) => {
          socket.on('error', () => {});
          socket.on('data', () => socket.write(Buffer.alloc(65_536, 0xff)));
        }),
    ],
  ];
  for (const [name, speak] of rubbish) {
    it(`and ${name}: a typed error, exit status 1`, async () => {
      const path = join(folder, `${name.replaceAll(' ', '-')}.sock`);
      const server = createServer();
      speak(server);
      await new Promise<void>((resolve) => server.listen(path, resolve));
      try {
        const expected = [
          'ERR_SNAPBAK_PROTOCOL',
          'ERR_SNAPBAK_DRIVER_GONE',
          'ERR_SNAPBAK_VERSION',
          'ERR_SNAPBAK_ORIGIN',
        ];
        await assert.rejects(openOrigin(`unix:${path}`), (error: unknown) => {
          assert.ok(SnapbakError.is(error), String(error));
          return expected.includes(error.code);
        });
        const result = await snapbak('backup', `unix:${path}`, join(folder, 'b'), '--json');
        assert.equal(result.code, 1, told(result));
        assert.ok(expected.includes(String(errorCode(result))), told(result));
        assert.equal(existsSync(join(folder, 'b')), false);
      } finally {
        await new Promise((resolve) => server.close(resolve));
      }
    });
  }

  it('and says nothing at all: it is given up in bounded time', async function () {
    this.timeout(120_000);
    const path = join(folder, 'silent.sock');
    const server = createServer((socket) => socket.on('error', () => {}).resume());
    await new Promise<void>((resolve) => server.listen(path, resolve));
    try {
      await assert.rejects(openOrigin(`unix:${path}`), (error: unknown) => SnapbakError.is(error));
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

describe('bad input to the library', () => {
  let cleanup: Cleanup;
  let image: string;
  before(async () => {
    cleanup = new Cleanup();
    image = join(cleanup.folder('api'), 'disk.img');
    await makeImage(image, MiB);
  });
  after(() => cleanup.run());

  it('an image that is not there, or is a directory', async () => {
    const away = { name: 'SnapbakError', code: 'ERR_SNAPBAK_ORIGIN' };
    await assert.rejects(openEmbedded(`${image}.none`), away);
    await assert.rejects(openEmbedded(join(image, '..')), away);
    await assert.rejects(openEmbedded(''), TypeError);
    await assert.rejects(openEmbedded(7 as unknown as string), TypeError);
  });

  it('reads and writes outside the device have no side effect', async () => {
    await using origin = await openEmbedded(image);
    const before = await readFile(image);
    for (const [offset, length] of [
      [-1, 1],
      [MiB, 1],
      [MiB - 1, 2],
      [0.5, 1],
      [Number.NaN, 1],
      [2 ** 60, 1],
    ] as const) {
      await assert.rejects(origin.read(offset, length), RangeError, `read ${offset} ${length}`);
      await assert.rejects(
        origin.write(offset, Buffer.alloc(length)),
        RangeError,
        `write ${offset} ${length}`,
      );
      await assert.rejects(origin.writeZeroes(offset, length), RangeError, `zero ${offset} ${length}`);
      await assert.rejects(origin.discard(offset, length), RangeError, `discard ${offset} ${length}`);
    }
    await assert.rejects(origin.write(0, 'text' as unknown as Buffer), TypeError);
    assert.ok((await readFile(image)).equals(before));
    assert.deepEqual(await readdir(join(image, '..')), ['disk.img']);
  });
});
