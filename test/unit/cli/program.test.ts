import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Output } from '../../../lib/cli/output.js';
import { run } from '../../../lib/cli/program.js';
import { directoryTarget, openEmbedded, startBackup } from '../../../lib/index.js';
import { snapbak } from '../../helpers/cli.js';
import { TextSink } from '../../helpers/text-sink.js';

async function cli(...args: string[]) {
  const out = new TextSink();
  const err = new TextSink();
  const status = await run(args, new Output(out, err));
  return { status, out, err };
}

describe('the program snapbak', () => {
  it('shows its commands, exit statuses and version', async () => {
    const help = await cli('--help');
    assert.equal(help.status, 0);
    for (const word of [
      'serve',
      'backup',
      'restore',
      'verify',
      'inspect',
      'status',
      'doctor',
      'Exit status',
    ]) {
      assert.ok(help.out.text.includes(word), word);
    }
    const version = await cli('--version');
    assert.equal(version.status, 0);
    assert.match(version.out.text, /^\d+\.\d+\.\d+\n$/);
    const backup = await cli('backup', '--help');
    assert.match(backup.out.text, /--hold-timeout[\s\S]*Ctrl-C[\s\S]*Exit status/);
  });

  const usage: [string, string[], RegExp][] = [
    ['no command', [], /Usage: snapbak/],
    ['an unknown command', ['frobnicate'], /unknown command 'frobnicate'/],
    ['an unknown option', ['verify', 'x', '--frobnicate'], /unknown option '--frobnicate'/],
    ['a missing argument', ['backup', 'unix:/x'], /missing required argument 'directory'/],
    ['one argument too many', ['verify', 'a', 'b'], /too many arguments/],
    ['a bad rate', ['backup', 'unix:/x', 'd', '--rate', 'fast'], /'fast' is invalid/],
    ['a bad time', ['backup', 'unix:/x', 'd', '--hold-timeout', '30'], /'30' is invalid.*write e\.g\./],
    ['a bad policy', ['backup', 'unix:/x', 'd', '--on-full', 'panic'], /Allowed choices are break, hold/],
    ['a bad container', ['backup', 'unix:/x', 'd', '--container', 'tape:1'], /not a container: "tape:1"/],
    [
      'two memories',
      ['backup', 'unix:/x', 'd', '--container', 'memory:1M', '--container', 'memory:2M'],
      /twice/,
    ],
    [
      'a bad origin',
      ['backup', 'tcp:x', 'd'],
      /spec must be \/dev\/DEVICE or unix:CONTROL_SOCKET, not "tcp:x"/,
    ],
    ['an empty place to restore to', ['restore', 'd', ''], /options\.to must not be empty/],
  ];
  for (const [what, args, message] of usage) {
    it(`says what is wrong with ${what}: exit status 2`, async () => {
      const { status, out, err } = await cli(...args);
      assert.equal(status, 2);
      assert.match(err.text, message);
      assert.doesNotMatch(err.text, /^\s+at /m);
      assert.equal(out.text, '');
    });
  }

  it('says it as one error event with --json, and nothing else', async () => {
    const { status, out, err } = await cli('backup', 'unix:/x', 'd', '--json', '--rate', 'fast');
    assert.equal(status, 2);
    assert.equal(err.text, '');
    assert.equal(out.events.length, 1);
    assert.equal(out.events[0]?.event, 'error');
    assert.equal(out.events[0]?.code, 'usage');
    assert.match(String(out.events[0]?.message), /^option '--rate <size>' argument 'fast' is invalid/);
  });

  it('fails with status 1 and a typed error for what is not there', async () => {
    for (const [args, code] of [
      [['status', 'unix:/nonexistent/x'], 'ERR_SNAPBAK_ORIGIN'],
      [['backup', 'unix:/nonexistent/x', 'd'], 'ERR_SNAPBAK_ORIGIN'],
      [['backup', '/dev/null', 'd'], 'ERR_SNAPBAK_ORIGIN'],
      [['backup', 'unix:/x', 'd', '--blocks', '/nonexistent/list'], 'ERR_SNAPBAK_BLOCK_LIST'],
      [['verify', '/nonexistent'], 'ERR_SNAPBAK_MANIFEST'],
      [['inspect', '/nonexistent'], 'ERR_SNAPBAK_MANIFEST'],
      [['restore', '/nonexistent', '/nonexistent/x'], 'ERR_SNAPBAK_MANIFEST'],
    ] as const) {
      const { status, out } = await cli(...args, '--json');
      assert.equal(status, 1, args.join(' '));
      assert.equal(out.events[0]?.code, code, args.join(' '));
      const text = await cli(...args);
      assert.match(text.err.text, /^snapbak: .+\n$/);
    }
  });

  it('ends with that status as a process, and speaks to the right streams', async () => {
    const good = await snapbak('--version');
    assert.deepEqual([good.code, good.stderr], [0, '']);
    const bad = await snapbak('backup', 'unix:/nonexistent/x', 'd');
    assert.deepEqual([bad.code, bad.stdout], [1, '']);
    assert.match(bad.stderr, /snapbak serve/);
    assert.equal((await snapbak('frobnicate')).code, 2);
  });
});

describe('snapbak on a backup', () => {
  let folder: string;
  let backup: string;
  const size = 300_000;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'snapbak-cli-'));
    backup = join(folder, 'backup');
    const image = join(folder, 'disk.img');
    const content = Buffer.alloc(size);
    content.fill('data', 0, 100_000);
    await writeFile(image, content);
    await using origin = await openEmbedded(image);
    await (await startBackup({ origin, target: directoryTarget(backup) })).finished;
  });
  after(() => rm(folder, { recursive: true }));

  it('verifies it', async () => {
    const text = await cli('verify', backup);
    assert.equal(text.status, 0, text.err.text);
    assert.match(text.out.text, /^good: 292\.97 KiB checked/);
    const json = await cli('verify', backup, '--json');
    assert.equal(json.out.events.at(-1)?.event, 'finished');
    assert.equal(json.out.events.at(-1)?.bytes, size);
  });

  it('restores it, and not over something', async () => {
    const to = join(folder, 'restored.img');
    const { status, out } = await cli('restore', backup, to);
    assert.equal(status, 0);
    assert.match(out.text, /^restored 292\.97 KiB to /);
    assert.deepEqual(await readFile(to), await readFile(join(folder, 'disk.img')));
    assert.equal((await cli('restore', backup, to)).status, 1);
    assert.equal((await cli('restore', backup, to, '--force', '--no-verify')).status, 0);
  });

  it('reads its image from a device only if that is named, and its manifest agrees', async () => {
    const named = await cli('verify', backup, '--image-device', '/dev/null');
    assert.equal(named.status, 1);
    assert.match(named.err.text, /is a file in it, not on the device \/dev\/null/);
    const path = join(backup, 'manifest.json');
    const text = await readFile(path, 'utf8');
    const image = { kind: 'device', path: '/dev/null', offset: 0 };
    try {
      await writeFile(path, JSON.stringify({ ...JSON.parse(text), image }));
      const to = join(folder, 'from-device.img');
      for (const command of [['verify'], ['restore', to]]) {
        const { status, err } = await cli(command[0]!, backup, ...command.slice(1));
        assert.equal(status, 1);
        assert.match(err.text, /its manifest says \/dev\/null; .* name the device yourself .*--image-device/);
      }
      const none = await cli('restore', backup, to, '--image-device', '/dev/null');
      assert.match(none.err.text, /\/dev\/null, named as the device with the image, is no block device/);
    } finally {
      await writeFile(path, text);
    }
  });

  it('shows it, with a map of data and zeroes', async () => {
    const text = await cli('inspect', backup);
    assert.equal(text.status, 0);
    assert.match(text.out.text, /state: {5}complete\n/);
    assert.match(
      text.out.text,
      /listed: {4}292\.97 KiB in 1 runs, blocks of 64 KiB, 164\.97 KiB of it zeroes/,
    );
    assert.match(text.out.text, /\n {2}█+▒?░+\n/);
    const json = await cli('inspect', backup, '--json');
    assert.equal(json.out.events[0]?.listedBytes, size);
    assert.equal(json.out.events[0]?.state, 'complete');
  });
});
