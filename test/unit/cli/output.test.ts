import assert from 'node:assert/strict';
import { CommanderError } from 'commander';
import { EXIT, exitStatusOf } from '../../../lib/cli/exit-status.js';
import { Output } from '../../../lib/cli/output.js';
import { SnapbakError } from '../../../lib/errors.js';
import { TextSink } from '../../helpers/text-sink.js';

function setup() {
  const out = new TextSink();
  const err = new TextSink();
  return { out, err, output: new Output(out, err) };
}

describe('Output', () => {
  it('tells an error in one line to people, and as an event to programs', () => {
    const { out, err, output } = setup();
    const error = new SnapbakError('ERR_SNAPBAK_TARGET', 'the target is full', { errno: -28, path: '/b' });
    output.error(error, false);
    output.error(error, true);
    assert.equal(err.text, 'snapbak: the target is full\n');
    assert.deepEqual(out.events, [
      {
        event: 'error',
        code: 'ERR_SNAPBAK_TARGET',
        message: 'the target is full',
        errno: -28,
        errnoName: 'ENOSPC',
        path: '/b',
      },
    ]);
  });

  it('calls misuse by its name', () => {
    const { out, output } = setup();
    output.error(new RangeError('options.rate must be from 1'), true);
    assert.deepEqual(out.events, [{ event: 'error', code: 'usage', message: 'options.rate must be from 1' }]);
  });

  it('shows what a terminal would obey: names and messages may come from anywhere', () => {
    const { out, err, output } = setup();
    output.line('disk\x1b[2J\x07\r.img\ttab\n█');
    output.warn('\u009b31m \u202egmi.ksid');
    output.error(new SnapbakError('ERR_SNAPBAK_MANIFEST', 'no \x1b]0;title\x07'), false);
    assert.equal(out.text, 'disk\\u001b[2J\\u0007\\u000d.img\ttab\n█\n');
    assert.equal(err.text, '\\u009b31m \\u202egmi.ksid\nsnapbak: no \\u001b]0;title\\u0007\n');
  });

  it('is silent to a reader that went away, and goes on for the other', () => {
    const { out, err, output } = setup();
    output.line('one');
    out.fail(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    output.line('two');
    output.event({ event: 'progress' });
    output.warn('three');
    assert.equal(out.text, 'one\n');
    assert.equal(err.text, 'three\n');
  });
});

describe('the exit status', () => {
  it('follows from the error', () => {
    const cases: [unknown, number][] = [
      [new CommanderError(1, 'commander.unknownOption', 'x'), EXIT.usage],
      [new CommanderError(0, 'commander.helpDisplayed', 'x'), EXIT.good],
      [new TypeError('x'), EXIT.usage],
      [new RangeError('x'), EXIT.usage],
      [Object.assign(new RangeError('of Node itself'), { code: 'ERR_OUT_OF_RANGE' }), EXIT.failed],
      [new SnapbakError('ERR_SNAPBAK_BUSY', 'x'), EXIT.failed],
      [new SnapbakError('ERR_SNAPBAK_ABORTED', 'x'), EXIT.broken],
      [new Error('x'), EXIT.failed],
      ['x', EXIT.failed],
    ];
    for (const [error, status] of cases) assert.equal(exitStatusOf(error), status, String(error));
  });
});
