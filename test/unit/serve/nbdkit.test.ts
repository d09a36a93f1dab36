import assert from 'node:assert/strict';
import { exportArguments } from '../../../lib/export/export.js';
import { imageArguments } from '../../../lib/restore/serve-backup.js';
import { nbdkitArguments, nbdkitMessage } from '../../../lib/serve/nbdkit.js';
import { checkedPath, checkedSocket } from '../../../lib/serve/paths.js';

describe('what nbdkit is told, and says', () => {
  it('names the connections that it inherits, and whether clients may write', () => {
    const what = { plugin: '/p.so', socket: '/s', size: 4096, connections: 16 };
    assert.deepEqual(exportArguments({ ...what, readOnly: false }), [
      ...['-f', '-U', '/s', '/p.so'],
      ...['fds=3-18', 'size=4096', 'readonly=false'],
    ]);
    assert.deepEqual(exportArguments({ ...what, readOnly: true }).slice(3, 5), ['-r', '/p.so']);
  });

  it('serves an image read-only, or under the cow filter', () => {
    const plain = imageArguments({ socket: '/s', overlay: false, size: 512 });
    assert.ok(plain.includes('-r') && !plain.includes('--filter=cow'));
    const overlay = imageArguments({ socket: '/s', overlay: true, size: 512 });
    assert.ok(!overlay.includes('-r') && overlay.includes('--filter=cow'));
    assert.ok(
      overlay.indexOf('--filter=cow') < overlay.indexOf('--filter=offset'),
      'the outermost comes first',
    );
    assert.ok(overlay.includes('range=512'));
  });

  it('outlives us only as the user driver', () => {
    const args = nbdkitArguments({ plugin: '/p', image: '/i', socket: '/s', control: '/c', readOnly: false });
    assert.ok(args.includes('outlive-parent=true'));
    assert.ok(imageArguments({ socket: '/s', overlay: false, size: 1 }).includes('--exit-with-parent'));
  });

  it('is passed on without its prefixes, and not at all when it means nothing', () => {
    const said: [string, string | undefined][] = [
      ['nbdkit: snapbak[1]: error: read at 0: Input/output error', 'read at 0: Input/output error'],
      ['nbdkit: snapbakexport[12]: error: read', 'read'],
      ['nbdkit: error: cannot open', 'cannot open'],
      ["nbdkit: file[1]: error: export '4 not found", "export '4 not found"],
      ['nbdkit: snapbak[2]: error: aborting sleep because of server shut down', undefined],
      ['nbdkit: error: aborting sleep because of server shut down', undefined],
      ['  ', undefined],
    ];
    for (const [line, text] of said) assert.equal(nbdkitMessage(line), text, line);
  });
});

describe('paths of what is served', () => {
  it('become absolute, and are named when they are none', () => {
    assert.equal(checkedPath('options.image', '/a/../b'), '/b');
    assert.throws(() => checkedPath('options.image', ''), /options\.image must be a path/);
    assert.throws(() => checkedPath('options.image', 'a\0b'), RangeError);
    assert.throws(() => checkedPath('options.image', 5), TypeError);
    assert.equal(checkedSocket('options.socket', `/${'x'.repeat(106)}`).length, 107);
    assert.throws(() => checkedSocket('options.socket', `/${'x'.repeat(107)}`), /at most 107 bytes/);
  });
});
