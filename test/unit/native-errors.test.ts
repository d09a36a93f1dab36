import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { SnapbakError } from '../../lib/errors.js';
import { fromNative } from '../../lib/native-errors.js';
import { nativeError } from '../helpers/fake-session.js';

const { errno } = constants;
const context = { path: 'unix:/run/x', doing: 'open the origin' };

describe('fromNative', () => {
  const cases: [number, string, string, RegExp][] = [
    [errno.EBUSY, 'open', 'ERR_SNAPBAK_BUSY', /another session/],
    [errno.EPROTO, 'open', 'ERR_SNAPBAK_PROTOCOL', /control socket/],
    [errno.ECONNRESET, 'status', 'ERR_SNAPBAK_PROTOCOL', /control socket/],
    [errno.EPROTONOSUPPORT, 'connect', 'ERR_SNAPBAK_VERSION', /update/],
    [errno.EPERM, 'connect', 'ERR_SNAPBAK_PERMISSION', /root/],
    [errno.EACCES, 'connect', 'ERR_SNAPBAK_PERMISSION', /root/],
    [errno.ECONNRESET, 'start', 'ERR_SNAPBAK_DRIVER_GONE', /log/],
    [errno.EPIPE, 'finish', 'ERR_SNAPBAK_DRIVER_GONE', /log/],
    [errno.ENOENT, 'connect', 'ERR_SNAPBAK_ORIGIN', /snapbak serve/],
    [errno.ECONNREFUSED, 'connect', 'ERR_SNAPBAK_ORIGIN', /snapbak serve/],
    [errno.EISDIR, 'open', 'ERR_SNAPBAK_ORIGIN', /EISDIR/],
    [errno.ETIMEDOUT, 'start', 'ERR_SNAPBAK_START_TIMEOUT', /startTimeout/],
    [errno.ENOSPC, 'target', 'ERR_SNAPBAK_TARGET', /full/],
    [errno.EACCES, 'target', 'ERR_SNAPBAK_TARGET', /may not be written/],
    [errno.ENOMEM, 'setup', 'ERR_SNAPBAK_IO', /smaller container/],
    [errno.EBUSY, 'finish', 'ERR_SNAPBAK_IO', /EBUSY/],
    [errno.EIO, '', 'ERR_SNAPBAK_IO', /EIO/],
    [errno.ENOENT, 'module', 'ERR_SNAPBAK_MISSING', /modprobe dm-snapbak.*snapbak module install/],
    [errno.ENODEV, 'module', 'ERR_SNAPBAK_MISSING', /not loaded/],
    [errno.EACCES, 'module', 'ERR_SNAPBAK_PERMISSION', /root only/],
    [errno.EPERM, 'module', 'ERR_SNAPBAK_PERMISSION', /root only/],
    [errno.EPROTONOSUPPORT, 'module', 'ERR_SNAPBAK_VERSION', /snapbak module status/],
    [errno.ENODEV, 'status', 'ERR_SNAPBAK_ORIGIN', /snapbak attach/],
    [errno.ENODEV, 'open', 'ERR_SNAPBAK_ORIGIN', /snapbak attach/],
    [errno.ENXIO, 'open', 'ERR_SNAPBAK_ORIGIN', /no node in \/dev/],
    [errno.EBUSY, 'start', 'ERR_SNAPBAK_BUSY', /frozen already/],
  ];
  for (const [number, stage, code, words] of cases) {
    it(`makes ${code} of errno ${number} in ${stage === '' ? 'no stage' : stage}`, () => {
      const cause = nativeError(number, stage);
      const error = fromNative(cause, context);
      assert.ok(SnapbakError.is(error));
      assert.equal(error.code, code);
      assert.match(error.message, words);
      assert.match(error.message, /cannot open the origin: unix:\/run\/x/);
      assert.equal(error.errno, -number);
      assert.equal(error.path, 'unix:/run/x');
      assert.equal(error.cause, cause);
    });
  }

  it('leaves a SnapbakError, and what has no errno, as they are', () => {
    for (const error of [new SnapbakError('ERR_SNAPBAK_IO', 'x'), new TypeError('bug')]) {
      assert.equal(fromNative(error, context), error);
    }
    assert.match(fromNative('thrown text', context).message, /thrown text/);
  });
});
