import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { type EmbeddedOrigin, openEmbedded, openOrigin } from '../../lib/origin.js';
import { dev, fakeHost } from '../helpers/fake-host.js';
import { FakeNativeOrigin, FakeSession, fakeBinding, nativeError } from '../helpers/fake-session.js';

const { errno } = constants;

describe('openOrigin', () => {
  const open = (spec: string, session = new FakeSession()) => {
    const where: unknown[] = [];
    const native = fakeBinding({
      createSession: (place) => {
        where.push(place);
        return session;
      },
    });
    return { where, session, origin: openOrigin(spec, native) };
  };

  it('asks the driver for its size, over the socket', async () => {
    const { origin, where, session } = open('unix:/run/x.control');
    assert.equal((await origin).size, session.info.size);
    assert.equal((await origin).spec, 'unix:/run/x.control');
    assert.deepEqual(where, [{ socket: '/run/x.control' }]);
    assert.deepEqual(session.calls, ['status', 'close']);
  });

  it('takes a relative path from here', async () => {
    const { origin, where } = open('unix:x.control');
    await origin;
    assert.deepEqual(where, [{ socket: `${process.cwd()}/x.control` }]);
  });

  for (const spec of ['', 'unix:', 'x.control', 'tcp:1', 'unix:a\0b', 5]) {
    it(`refuses ${JSON.stringify(spec)} as a spec`, async () => {
      await assert.rejects(open(spec as string).origin, { name: 'TypeError', message: /spec must be/ });
    });
  }

  it('says that nobody serves there, and closes what it opened', async () => {
    const session = new FakeSession();
    session.failing.set('status', nativeError(errno.ENOENT, 'connect'));
    await assert.rejects(open('unix:/x', session).origin, {
      code: 'ERR_SNAPBAK_ORIGIN',
      message: /snapbak serve/,
    });
    assert.equal(session.calls.at(-1), 'close');
  });

  it('tells info() from one short session, and remembers it', async () => {
    const session = new FakeSession();
    const origin = await open('unix:/x', session).origin;
    assert.equal((await origin.info()).id, 'fake-disk');
    assert.equal((await origin.info()).spec, 'unix:/x');
    assert.deepEqual(session.calls, ['status', 'close', 'open', 'close']);
  });

  it('asks again for info() after it failed', async () => {
    const session = new FakeSession();
    const origin = await open('unix:/x', session).origin;
    session.failing.set('open', nativeError(errno.EBUSY, 'open'));
    await assert.rejects(origin.info(), { code: 'ERR_SNAPBAK_BUSY' });
    session.failing.clear();
    assert.equal((await origin.info()).driver, 'user');
  });

  it('gives hints by a short session, so that the first of a call is copied first', async () => {
    const session = new FakeSession();
    const origin = await open('unix:/x', session).origin;
    session.calls.length = 0;
    await origin.hint([
      { offset: 0, length: 5 },
      { offset: 100, length: 1 },
    ]);
    assert.deepEqual(session.calls, ['hint 100,1,0,5', 'close'], 'the newest hint goes first');
    session.calls.length = 0;
    await origin.hint([]);
    assert.deepEqual(session.calls, []);
  });

  it('says why nobody takes a hint', async () => {
    const session = new FakeSession();
    const origin = await open('unix:/x', session).origin;
    for (const [number, code] of [
      [errno.ENODATA, 'ERR_SNAPBAK_NO_SESSION'],
      [errno.ENOTTY, 'ERR_SNAPBAK_VERSION'],
    ] as const) {
      session.failing.set('hint', nativeError(number, 'hint'));
      await assert.rejects(origin.hint([{ offset: 0, length: 1 }]), { code, path: 'unix:/x' });
      assert.equal(session.calls.at(-1), 'close');
    }
  });

  it('refuses hints that are none', async () => {
    const session = new FakeSession();
    const { size } = session.info;
    const origin = await open('unix:/x', session).origin;
    session.calls.length = 0;
    const many = Array.from({ length: 65 }, () => ({ offset: 0, length: 1 }));
    for (const [bad, name, message] of [
      [undefined, 'TypeError', /extents must be an iterable/],
      [[5], 'TypeError', /extents\[0\] must be \{ offset, length \}/],
      [[{ offset: 0, length: 0 }], 'RangeError', /extents\[0\]\.length must be above 0/],
      [[{ offset: size, length: 1 }], 'RangeError', /extents\[0\] must end at or before the end/],
      [many, 'RangeError', /at most 64, not 65/],
    ] as const) {
      await assert.rejects(origin.hint(bad as never), { name, message });
    }
    assert.deepEqual(session.calls, []);
  });

  it('refuses everything once closed', async () => {
    const origin = await open('unix:/x').origin;
    await origin[Symbol.asyncDispose]();
    await origin.close();
    await assert.rejects(origin.status(), { code: 'ERR_SNAPBAK_ORIGIN', message: /is closed/ });
    assert.throws(() => origin.createSession(), /is closed/);
  });
});

describe('openOrigin with a block device', () => {
  const machine = {
    mounts: {
      '/': { device: '8:1' },
      '/data': { device: '253:3' },
      '/data/again': { device: '253:3' },
      '/on-lvm': { device: '253:9' },
    },
    devices: {
      '8:1': { name: 'sda1' },
      '253:3': { name: 'dm-3', below: ['253:2'] },
      '253:2': { name: 'dm-2', below: ['8:1'] },
      '253:9': { name: 'dm-9', below: ['253:3'] },
    },
    files: {
      '/dev/mapper/data': { blockDevice: '253:3' },
      '/dev/sda1': { blockDevice: '8:1' },
      '/images/disk.img': {},
    },
  };
  const open = (spec: string, session = new FakeSession()) => {
    const where: unknown[] = [];
    const synced: string[] = [];
    const native = fakeBinding({
      createSession: (place) => {
        where.push(place);
        return session;
      },
      async syncFileSystem(path) {
        synced.push(path);
        throw nativeError(errno.EIO, 'syncfs');
      },
    });
    return { where, synced, session, origin: openOrigin(spec, native, fakeHost(machine)) };
  };

  it('asks the kernel driver for its size, by the number of the device', async () => {
    const { origin, where, session } = open('/dev/mapper/data');
    assert.equal((await origin).size, session.info.size);
    assert.equal((await origin).spec, '/dev/mapper/data');
    assert.deepEqual(where, [{ device: dev(253, 3) }]);
    assert.deepEqual(session.calls, ['status', 'close']);
  });

  it('writes the dirty pages of every file system on it once, and leaves errors to the start', async () => {
    const { origin, synced } = open('/dev/mapper/data');
    await (await origin).writeDirtyPages();
    assert.deepEqual(synced, ['/data', '/on-lvm']);
  });

  it('says what to do with a device that is not attached, or a module that is not loaded', async () => {
    const session = new FakeSession();
    session.failing.set('status', nativeError(errno.ENODEV, 'status'));
    await assert.rejects(open('/dev/mapper/data', session).origin, {
      code: 'ERR_SNAPBAK_ORIGIN',
      message: /cannot open the origin: \/dev\/mapper\/data: ENODEV .*snapbak attach/,
    });
    assert.equal(session.calls.at(-1), 'close');
    session.failing.set('status', nativeError(errno.ENOENT, 'module'));
    await assert.rejects(open('/dev/mapper/data', session).origin, { code: 'ERR_SNAPBAK_MISSING' });
  });

  it('refuses what the kernel driver cannot serve, and says what can', async () => {
    const cases: [string, RegExp][] = [
      ['/dev/sda1', /no device-mapper device.*snapbak attach --create NAME \/dev\/sda1/],
      ['/images/disk.img', /no block device.*snapbak serve \/images\/disk.img/],
      ['/dev/missing', /no such device/],
    ];
    for (const [spec, message] of cases) {
      const { origin, where } = open(spec);
      await assert.rejects(origin, { code: 'ERR_SNAPBAK_ORIGIN', path: spec, message });
      assert.deepEqual(where, []);
    }
    await assert.rejects(open('/dev/a\0b').origin, { name: 'TypeError', message: /spec must be/ });
  });

  it('refuses everything once closed', async () => {
    const { origin } = open('/dev/mapper/data');
    await (await origin).close();
    await assert.rejects((await origin).status(), { code: 'ERR_SNAPBAK_ORIGIN', message: /is closed/ });
  });
});

describe('openEmbedded', () => {
  let native: FakeNativeOrigin;
  let origin: EmbeddedOrigin;
  beforeEach(async () => {
    native = new FakeNativeOrigin(10_000);
    origin = await openEmbedded('disk.img', {}, fakeBinding({ openOrigin: async () => native }));
  });

  it('opens the image by its full path, read-only where asked for', async () => {
    const opened: unknown[] = [];
    const binding = fakeBinding({
      openOrigin: async (...args) => {
        opened.push(args);
        return native;
      },
    });
    await openEmbedded('disk.img', { readOnly: true }, binding);
    assert.deepEqual(opened, [[`${process.cwd()}/disk.img`, true]]);
  });

  it('reads, writes, zeroes, discards and flushes', async () => {
    await origin.write(5, Buffer.from('hello'), { fua: true });
    assert.equal((await origin.read(5, 5)).toString(), 'hello');
    await origin.writeZeroes(6, 2);
    await origin.writeZeroes(8, 1, { mayTrim: false, fua: true });
    await origin.discard(0, 10_000);
    await origin.flush();
    assert.deepEqual(native.calls, [
      'write 5 5 true',
      'read 5 5',
      'writeZeroes 6 2 false true',
      'writeZeroes 8 1 true false',
      'discard 0 10000',
      'flush',
    ]);
  });

  it('does nothing for nothing, but flushes for an empty write with fua', async () => {
    await origin.write(0, new Uint8Array());
    await origin.writeZeroes(10_000, 0);
    await origin.discard(0, 0);
    assert.equal((await origin.read(10_000, 0)).length, 0);
    assert.deepEqual(native.calls, []);
    await origin.write(0, new Uint8Array(), { fua: true });
    await origin.writeZeroes(0, 0, { fua: true });
    assert.deepEqual(native.calls, ['flush', 'flush']);
  });

  it('refuses what is past the end or no number, and touches nothing', async () => {
    const bad: [() => Promise<unknown>, RegExp, string][] = [
      [() => origin.read(9_999, 2), /offset 9999 \+ length 2 is past the end/, 'RangeError'],
      [() => origin.read(-1, 2), /offset must be from 0/, 'RangeError'],
      [() => origin.read(0, 1.5), /length must be an integer, not 1.5/, 'RangeError'],
      [() => origin.read('0' as never, 1), /offset must be a number/, 'TypeError'],
      [() => origin.write(10_000, Buffer.from('x')), /past the end/, 'RangeError'],
      [() => origin.write(0, 'text' as never), /data must be a Uint8Array, not "text"/, 'TypeError'],
      [
        () => origin.write(0, Buffer.from('x'), { fua: 1 } as never),
        /options\.fua must be a boolean/,
        'TypeError',
      ],
      [() => origin.write(0, Buffer.from('x'), { sync: true } as never), /options\.sync is not/, 'TypeError'],
      [() => origin.writeZeroes(0, 10_001), /past the end/, 'RangeError'],
      [() => origin.writeZeroes(0, 1, { mayTrim: 'no' } as never), /mayTrim must be/, 'TypeError'],
      [() => origin.discard(0, Number.NaN), /length must be an integer/, 'RangeError'],
    ];
    for (const [run, message, name] of bad) await assert.rejects(run(), { name, message });
    assert.deepEqual(native.calls, []);
  });

  it('refuses options and paths of the wrong kind', async () => {
    const binding = fakeBinding({ openOrigin: async () => native });
    await assert.rejects(openEmbedded('', {}, binding), TypeError);
    await assert.rejects(openEmbedded(7 as never, {}, binding), TypeError);
    await assert.rejects(openEmbedded('x', { readonly: true } as never, binding), /options\.readonly is not/);
  });

  it('says where an I/O error was', async () => {
    native.error = nativeError(errno.EIO, 'write');
    await assert.rejects(origin.write(512, Buffer.alloc(3)), {
      code: 'ERR_SNAPBAK_IO',
      errno: -errno.EIO,
      extent: { offset: 512, length: 3 },
      message: /disk\.img: EIO.*at 512, 3 bytes/,
    });
  });

  it('says that there is no such image', async () => {
    const binding = fakeBinding({
      openOrigin: async () => {
        throw nativeError(errno.ENOENT, 'open');
      },
    });
    await assert.rejects(openEmbedded('gone.img', {}, binding), {
      code: 'ERR_SNAPBAK_ORIGIN',
      path: 'gone.img',
    });
  });

  it('closes once, and refuses everything afterwards', async () => {
    await Promise.all([origin.close(), origin.close()]);
    assert.deepEqual(native.calls, ['close']);
    for (const run of [() => origin.read(0, 1), () => origin.flush(), () => origin.status()]) {
      await assert.rejects(run(), { code: 'ERR_SNAPBAK_ORIGIN', message: /is closed/ });
    }
  });
});
