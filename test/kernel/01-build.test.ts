// The module builds for every kernel without a warning, sparse and checkpatch
// have nothing to say, and it loads and unloads cleanly. Each check is shown to
// see a fault, too.
import assert from 'node:assert/strict';
import { appendFileSync, cpSync } from 'node:fs';
import { join } from 'node:path';
import { Cleanup } from '../helpers/cleanup.js';
import { must } from '../helpers/programs.js';
import { testedKernels } from './helpers/kernels.js';
import { moduleFor, ROOT, script } from './helpers/scripts.js';
import { findKernel } from './vm/kernel.js';
import { runVmOk } from './vm/run.js';

describe('the kernel module', () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  /** A copy of the sources with a fault in it. */
  function faulty(file: string, fault: string): string {
    const sources = join(cleanup.folder('module'), 'kernel-module');
    cpSync(join(ROOT, 'kernel-module'), sources, { recursive: true });
    appendFileSync(join(sources, file), fault);
    return sources;
  }

  for (const kernel of testedKernels('debian11', 'debian12', 'backports', 'newest')) {
    it(`builds for ${kernel} without a warning`, async () => {
      const { code, stderr } = await script('module', kernel);
      assert.equal(code, 0, stderr);
    });
  }

  it('does not build with a warning', async () => {
    const sources = faulty('dm-snapbak-target.c', '\nstatic int snapbak_unused(void)\n{\n\treturn 1;\n}\n');
    const { code, stderr } = await script('module', '--sources', sources, ...testedKernels('debian12'));
    assert.notEqual(code, 0);
    assert.match(stderr, /snapbak_unused.*unused-function/);
  });

  it('leaves no trace of its build in the repository', async () => {
    const found = await must('find', [
      join(ROOT, 'kernel-module'),
      ...['-name', '*.o', '-o', '-name', '*.ko', '-o', '-name', '*.mod*', '-o', '-name', '.*.cmd'],
    ]);
    assert.equal(found, '');
  });

  for (const kernel of testedKernels('debian12', 'backports')) {
    it(`is clean for sparse with the headers of ${kernel}, endianness included`, async () => {
      const { code, stderr } = await script('module', '--sparse', kernel);
      assert.equal(code, 0, stderr);
    });
  }

  it('is not clean for sparse with a value of the wrong endianness', async () => {
    const fault =
      '\nu32 snapbak_wrong(__le32 value);\nu32 snapbak_wrong(__le32 value)\n{\n\treturn value;\n}\n';
    const { code, stderr } = await script(
      'module',
      ...['--sparse', '--sources', faulty('dm-snapbak-target.c', fault)],
      ...testedKernels('debian12'),
    );
    assert.notEqual(code, 0);
    assert.match(stderr, /dm-snapbak-target\.c:\d+:\d+: warning: incorrect type in return expression/);
  });

  it('is written as checkpatch wants it', async () => {
    const { code, stderr } = await script('checkpatch');
    assert.equal(code, 0, stderr);
  });

  it('is not written as checkpatch wants it with a brace in the wrong place', async () => {
    const fault = '\nstatic void snapbak_wrong(void) {\n}\n';
    const { code, stderr } = await script('checkpatch', '--sources', faulty('dm-snapbak-target.c', fault));
    assert.notEqual(code, 0);
    assert.match(stderr, /kernel-module\/dm-snapbak-target\.c:\d+: ERROR:OPEN_BRACE/);
  });

  for (const kernel of testedKernels('debian11', 'debian12', 'backports', 'newest')) {
    it(`loads into ${kernel}, makes its control device, and unloads, again and again`, async () => {
      const module = await moduleFor(kernel);
      const { stdout } = await runVmOk({
        kernel,
        command: [
          'bash',
          '-euc',
          `modinfo -F vermagic '${module}'
          modprobe dm-mod
          for round in 1 2 3; do
            insmod '${module}'
            dmsetup targets | grep '^snapbak '
            stat -c '%A %U %G' /dev/snapbak/control
            rmmod dm-snapbak
            test ! -e /dev/snapbak/control
          done`,
        ],
      });
      const version = await must('modinfo', ['-F', 'version', module]);
      const [magic, ...rounds] = stdout.trimEnd().split('\n');
      assert.equal(magic?.split(' ')[0], findKernel(kernel).release);
      const target = `snapbak          v${version.trim()}`;
      const control = 'crw------- root root';
      assert.deepEqual(rounds, [target, control, target, control, target, control]);
    });
  }

  it('says what it is', async () => {
    const module = await moduleFor(testedKernels('debian12')[0]!);
    const field = async (name: string) => (await must('modinfo', ['-F', name, module])).trim();
    assert.equal(await field('name'), 'dm_snapbak');
    assert.equal(await field('license'), 'GPL');
    assert.equal(await field('depends'), 'dm-mod');
    assert.match(await field('version'), /^\d+\.\d+\.\d+$/);
    assert.match(await field('description'), /backup/);
    assert.notEqual(await field('author'), '');
  });
});
