import assert from 'node:assert/strict';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Hooks } from '../../../lib/backup/hooks.js';
import { programHooks } from '../../../lib/cli/hook-program.js';
import { until } from '../../helpers/programs.js';
import { temporaryFolder } from '../../helpers/serve.js';

const ORIGIN = 'unix:/run/x';

describe('a hook program', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let lines: string[];
  /** The most that was in use when it said something. */
  let heap: number;
  beforeEach(async () => {
    folder = await temporaryFolder();
    lines = [];
    heap = 0;
  });
  afterEach(() => folder.remove());

  /** A hook that is this shell script. */
  async function hooks(script: string, killAfter?: number) {
    const program = join(folder.path, 'hook');
    await writeFile(program, `#!/bin/sh\n${script}\n`);
    await chmod(program, 0o700);
    const say = (line: string) => {
      heap = Math.max(heap, process.memoryUsage().heapUsed);
      lines.push(line);
    };
    const more = killAfter === undefined ? {} : { killAfter };
    return await programHooks({ program, target: '/backup/monday', timeout: 1500, say, ...more });
  }

  function context(signal = new AbortController().signal) {
    return { id: 'an-id', origin: ORIGIN, origins: [ORIGIN], signal };
  }

  const alive = (pid: number) => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };

  it('is run with the name of the hook, and finds in its environment what it is about', async () => {
    const { beforeFreeze, afterThaw } = await hooks(
      'echo "$1" "$PATH" | cut -c1-20\nenv | grep ^SNAPBAK_ | sort',
    );
    await beforeFreeze(context());
    assert.match(lines[0]!, /^before-freeze \//);
    const common = [
      'SNAPBAK_ID=an-id',
      'SNAPBAK_ORIGIN=unix:/run/x',
      'SNAPBAK_ORIGINS=unix:/run/x',
      'SNAPBAK_TARGET=/backup/monday',
    ];
    for (const line of [...common, 'SNAPBAK_HOOK=before-freeze', 'SNAPBAK_TIMEOUT=2']) {
      assert.ok(lines.includes(line), line);
    }
    lines.length = 0;
    await afterThaw({ ...context(), started: true, startedAt: new Date(0), armMs: 0.5, freezeMs: 7 });
    for (const line of [
      ...common,
      'SNAPBAK_HOOK=after-thaw',
      'SNAPBAK_STARTED=1',
      'SNAPBAK_INSTANT=1970-01-01T00:00:00.000Z',
      'SNAPBAK_ARM_MS=0.5',
      'SNAPBAK_FREEZE_MS=7',
    ]) {
      assert.ok(lines.includes(line), line);
    }
    lines.length = 0;
    await afterThaw({ ...context(), started: false, error: new Error('too slow') });
    assert.ok(lines.includes('SNAPBAK_STARTED=0'));
    assert.ok(lines.includes('SNAPBAK_ERROR=too slow'));
  });

  it('shows what it says on both streams, and fails with its status and its last words', async () => {
    const { beforeFreeze } = await hooks('echo one; echo two >&2; echo "no database" >&2; exit 3');
    await assert.rejects(async () => beforeFreeze(context()), {
      message: /hook before-freeze ended with exit status 3: no database$/,
    });
    assert.deepEqual(lines.toSorted(), ['no database', 'one', 'two']);
  });

  it('is called to let go what it brought to rest, although it has said a NUL', async () => {
    const marker = join(folder.path, 'let-go');
    const { beforeFreeze, afterThaw } = await hooks(
      `[ "$1" = after-thaw ] && { printf %s "$SNAPBAK_ERROR" > ${marker}; exit; }\nprintf 'x\\0y\\n' >&2; exit 1`,
    );
    const around = new Hooks({ beforeFreeze, afterThaw, hookTimeout: 5000, id: 'an-id', origins: [ORIGIN] });
    await assert.rejects(
      around.around(() => assert.fail('nothing is started')),
      { code: 'ERR_SNAPBAK_HOOK', message: /ended with exit status 1: x\uFFFDy$/ },
    );
    assert.deepEqual(lines, ['x\uFFFDy']);
    assert.match(await readFile(marker, 'utf8'), /before-freeze ended with exit status 1: x\uFFFDy$/);
  });

  it('is told of an error that has a NUL from elsewhere', async () => {
    const { afterThaw } = await hooks('echo "$SNAPBAK_ERROR"');
    await afterThaw({ ...context(), started: false, error: new Error('x\0y') });
    assert.deepEqual(lines, ['x\uFFFDy']);
  });

  it('costs no more memory for a line that does not end', async () => {
    const bytes = 256 * 2 ** 20;
    const { beforeFreeze } = await hooks(`head -c ${bytes} /dev/zero | tr '\\0' x; echo; echo next`);
    const before = process.memoryUsage().heapUsed;
    await beforeFreeze(context());
    assert.deepEqual(lines, [`${'x'.repeat(1000)}…`, 'next']);
    assert.ok(heap - before < bytes / 2, `${heap - before} bytes were held`);
  }).timeout(30_000);

  it('may leave a process behind that holds its pipes', async () => {
    const { beforeFreeze } = await hooks(`sleep 60 & echo $! > ${join(folder.path, 'pid')}; echo ready`);
    await beforeFreeze(context());
    assert.deepEqual(lines, ['ready']);
    const pid = Number(await readFile(join(folder.path, 'pid'), 'utf8'));
    assert.ok(alive(pid), 'it was ended though the hook ended well');
    process.kill(pid, 'SIGKILL');
  });

  for (const [how, trap] of [
    ['obeys', ''],
    ['does not obey', "trap '' TERM"],
  ]) {
    it(`is ended with all that it began when its time is over and it ${how} SIGTERM`, async () => {
      const pids = join(folder.path, 'pids');
      const { beforeFreeze } = await hooks(`${trap}\nsleep 60 &\necho $$ $! > ${pids}\nwait\nsleep 60`, 50);
      const controller = new AbortController();
      const running = (async () => beforeFreeze(context(controller.signal)))();
      let began: number[] = [];
      await until('it began', async () => {
        const text = await readFile(pids, 'utf8').catch(() => '');
        began = text.trim().split(' ').map(Number);
        return text.endsWith('\n');
      });
      controller.abort();
      await assert.rejects(running, {
        message: trap === '' ? /was ended by SIGTERM/ : /was ended by SIGKILL/,
      });
      await until('all of it is gone', async () => began.every((pid) => !alive(pid)));
    });
  }

  it('is refused before anything is prepared if it cannot be run', async () => {
    const say = () => {};
    for (const program of ['/nonexistent/hook', 'snapbak-no-such-hook', join(folder.path, 'plain')]) {
      await writeFile(join(folder.path, 'plain'), 'no program');
      await assert.rejects(programHooks({ program, target: '/b', timeout: 1, say }), {
        code: 'ERR_SNAPBAK_HOOK',
        path: program,
      });
    }
  });

  it('is found in PATH', async () => {
    const { beforeFreeze } = await programHooks({ program: 'true', target: '/b', timeout: 1, say: () => {} });
    await beforeFreeze(context());
  });
});
