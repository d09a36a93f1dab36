// The command line as people and scripts meet it: Ctrl-C, a log's reader that
// went away, a terminal, the words of the status.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readManifest } from '../../lib/manifest.js';
import { Cleanup } from '../helpers/cleanup.js';
import { snapbak } from '../helpers/cli.js';
import { type ServedImage, serveImage, startBackup, untilIdle } from '../helpers/served-image.js';

const MiB = 1 << 20;

describe('snapbak backup', () => {
  let cleanup: Cleanup;
  let served: ServedImage;
  let directory: string;
  beforeEach(async () => {
    cleanup = new Cleanup();
    served = await serveImage(cleanup, { size: 32 * MiB });
    directory = join(served.folder, 'backup');
  });
  afterEach(() => cleanup.run());

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends cleanly on ${signal}: exit status 3, marked broken, the origin is free again`, async () => {
      const backup = startBackup(cleanup, served.origin, directory, '--rate', '1M');
      await backup.event('progress');
      backup.child.kill(signal);
      const { code, stdout, stderr, events } = await backup.finished;
      assert.equal(code, 3, stdout + stderr);
      const last = events.at(-1);
      assert.equal(last?.event, 'broken');
      assert.equal(last?.code, 'ERR_SNAPBAK_ABORTED');
      assert.match(String(last?.message), new RegExp(`stopped by ${signal}`));
      assert.equal((await readManifest(directory)).state, 'broken');
      await untilIdle(served.origin);
      const again = await snapbak('backup', served.origin, join(served.folder, 'again'));
      assert.equal(again.code, 0, again.stderr);
    });
  }

  it('goes on when the reader of its output went away', async () => {
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '16M');
    await backup.event('started');
    backup.child.stdout?.destroy();
    const { code, stderr } = await backup.finished;
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    assert.equal((await readManifest(directory)).state, 'complete');
  });

  it('speaks in plain lines to a log, the start first and the end last', async () => {
    const { code, stdout, stderr } = await snapbak('backup', served.origin, directory);
    assert.equal(code, 0, stderr);
    const lines = stdout.trim().split('\n');
    assert.match(lines[0]!, /^started \d{4}-.*Z: the backup is unix:/);
    assert.match(lines.at(-2)!, /^complete: 32 MiB in /);
    assert.equal(stdout.includes('\u001b'), false, 'it speaks to a terminal that is not there');
  });

  it('is watched until it ends', async () => {
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '16M');
    await backup.event('started');
    const { code, stderr, events } = await snapbak(
      'status',
      served.origin,
      '--watch',
      '--json',
      '--interval',
      '100ms',
    );
    assert.equal(code, 0, stderr);
    assert.ok(events.length > 3, `${events.length} looks`);
    const pending = events
      .filter(({ session }) => session === true)
      .map((look) => Number(look.pendingBlocks));
    assert.ok(pending[0]! > pending.at(-1)!, `pending: ${pending}`);
    assert.ok(events.at(-1)?.session === false || events.at(-1)?.state === 'finished');
    assert.equal((await backup.finished).code, 0);
  });

  it('shows in the status of the origin, while it runs and afterwards', async () => {
    const backup = startBackup(cleanup, served.origin, directory, '--rate', '4M');
    await backup.event('started');
    const running = await snapbak('status', served.origin, '--json');
    assert.equal(running.code, 0, running.stderr);
    assert.equal(running.events[0]?.session, true);
    assert.equal(running.events[0]?.state, 'armed');
    assert.match((await snapbak('status', served.origin)).stdout, /session: {2}armed/);
    backup.child.kill('SIGINT');
    await backup.finished;
    await untilIdle(served.origin);
  });
});
