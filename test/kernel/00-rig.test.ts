// The virtual machines that all other tests of the kernel module stand on:
// what a command does there arrives here, and nothing that the kernel complains
// of goes by unseen.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cleanup } from '../helpers/cleanup.js';
import { ended, start, until } from '../helpers/programs.js';
import { testedKernels } from './helpers/kernels.js';
import { VmError, type VmErrorCode } from './vm/errors.js';
import { findKernel } from './vm/kernel.js';
import { runVm, runVmOk, type VmOptions } from './vm/run.js';

const bash = (text: string) => ['bash', '-c', text];

async function failsWith(code: VmErrorCode, options: VmOptions): Promise<VmError> {
  try {
    await runVm(options);
  } catch (error) {
    assert.ok(error instanceof VmError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`no error, where ${code} was expected`);
}

describe('a virtual machine', () => {
  const cleanup = new Cleanup();
  afterEach(() => cleanup.run());

  for (const kernel of testedKernels('debian12', 'backports', 'newest', 'debian11')) {
    it(`boots ${kernel} and tells a command's output and exit status`, async () => {
      const command = bash('uname -r; nproc; echo to stderr >&2; exit 7');
      const result = await runVm({ kernel, command, cpus: 2 });
      assert.equal(result.stdout, `${findKernel(kernel).release}\n2\n`);
      assert.equal(result.stderr, 'to stderr\n');
      assert.equal(result.status, 7);
    });
  }

  it('runs the programs of this machine, Node among them, with the environment that it is given', async () => {
    const program = "console.log(process.env.GREETING, process.version, require('os').release())";
    const { stdout } = await runVmOk({
      command: [process.execPath, '-e', program],
      env: { GREETING: "it's $HOME" },
    });
    const { release } = findKernel(process.env.SNAPBAK_TEST_KERNEL ?? 'debian12');
    assert.equal(stdout, `it's $HOME ${process.version} ${release}\n`);
  });

  it('has the disks that it is given, in their order', async () => {
    const folder = cleanup.folder('vm-disks');
    const image = join(folder, 'image');
    const fixed = join(folder, 'fixed');
    for (const file of [image, fixed]) writeFileSync(file, Buffer.alloc(1 << 20, 'before'));
    const { stdout } = await runVmOk({
      command: bash(`
        set -e
        blockdev --getsize64 --getss --getro /dev/vda
        blockdev --getsize64 --getss --getro /dev/vdb
        blockdev --getsize64 --getss --getro /dev/vdc
        printf after | dd of=/dev/vdb conv=notrunc,fsync status=none
        if printf x 2>/dev/null >/dev/vdc; then exit 1; fi`),
      disks: [{ size: '3G', blockSize: 4096 }, image, { path: fixed, readOnly: true }],
    });
    assert.deepEqual(stdout.trim().split('\n').map(Number), [
      ...[3 * 2 ** 30, 4096, 0],
      ...[2 ** 20, 512, 0],
      ...[2 ** 20, 512, 1],
    ]);
    assert.equal(readFileSync(image).subarray(0, 9).toString(), 'afterebef');
    assert.equal(readFileSync(fixed).subarray(0, 9).toString(), 'beforebef');
  });

  it('writes to the folders that it shares with this machine, and to nothing else of it', async () => {
    const shared = cleanup.folder('vm-shared');
    const other = cleanup.folder('vm-other');
    const { stdout } = await runVmOk({
      command: bash(`echo here >${shared}/file && echo there >${other}/file && cat ${other}/file`),
      shares: [shared],
    });
    assert.equal(stdout, 'there\n');
    assert.equal(readFileSync(join(shared, 'file'), 'utf8'), 'here\n');
    assert.deepEqual(readdirSync(other), []);
  });

  it('tells output of many megabytes without a loss', async () => {
    const { stdout } = await runVmOk({ command: bash('seq 1 400000') });
    const lines = stdout.split('\n');
    assert.equal(lines.length, 400_001);
    assert.ok(lines.every((line, index) => line === (index < 400_000 ? String(index + 1) : '')));
  });

  it('fails for a warning of the kernel, though the command succeeds', async () => {
    const warn = `echo '<4>WARNING: CPU: 0 PID: 1 at fs/made-up.c:1 made_up+0x1/0x2' >/dev/kmsg`;
    const error = await failsWith('report', { command: bash(`${warn}; sleep 0.2; echo done`) });
    assert.match(error.message, /made-up\.c:1/);
    assert.equal(error.output.stdout, 'done\n');
    const allowed = await runVm({ command: bash(`${warn}; exit 5`), allow: [/made-up\.c/] });
    assert.equal(allowed.status, 5);
    assert.match(allowed.console, /made-up\.c:1/);
  });

  it('tells the kernel that died, with its last words', async () => {
    const error = await failsWith('report', { command: bash('echo c >/proc/sysrq-trigger; sleep 60') });
    assert.match(error.message, /Kernel panic/);
    assert.match(error.output.console, /sysrq_handle_crash/);
  });

  it('fails for a task that hangs, long before the time-out', async () => {
    const begin = Date.now();
    const error = await failsWith('report', {
      command: bash(`
        modprobe dm-mod
        dmsetup create still --table '0 2048 linear /dev/vda 0'
        dmsetup suspend --nolockfs still
        dd if=/dev/zero of=/dev/mapper/still bs=4096 count=1 conv=fsync status=none`),
      disks: ['1M'],
      hungTaskSeconds: 5,
      timeoutMs: 600_000,
    });
    assert.match(error.message, /INFO: task .* blocked for more than/);
    assert.ok(Date.now() - begin < 300_000);
  });

  it('ends a command that takes too long, and shows what its tasks wait for', async () => {
    const error = await failsWith('timeout', {
      command: bash(`
        modprobe dm-mod
        dmsetup create still --table '0 2048 linear /dev/vda 0'
        dmsetup suspend --nolockfs still
        echo begun
        dd if=/dev/zero of=/dev/mapper/still bs=4096 count=1 oflag=direct status=none`),
      disks: ['1M'],
      timeoutMs: 6_000,
    });
    assert.equal(error.output.stdout, 'begun\n');
    assert.match(error.message, /task:dd +state:D/);
  });

  it('tells a machine that went down under its command', async () => {
    await failsWith('died', { command: bash('echo o >/proc/sysrq-trigger; sleep 60') });
  });

  it('says what is missing for a kernel or a disk that is not there', async () => {
    const command = ['true'];
    const kernel = 'no-such-kernel' as 'debian12';
    assert.match((await failsWith('rig', { command, kernel })).message, /debian12, backports/);
    const disk = await failsWith('rig', { command, disks: ['/no/such/image'] });
    assert.match(disk.message, /\/no\/such\/image/);
  });

  it('ends with its runner, when that is killed, and the next run clears up after it', async () => {
    const main = fileURLToPath(new URL('vm/main.ts', import.meta.url));
    const runner = start(process.execPath, ['--import', 'tsx', main, ...bash('echo begun; sleep 600')]);
    const end = ended(runner);
    await new Promise((resolve) => runner.stdout?.once('data', resolve));
    assert.ok(processesOf(runner.pid!).length >= 2, 'QEMU and virtiofsd run');
    process.kill(runner.pid!, 'SIGKILL');
    await end;
    await until('the end of its processes', () => processesOf(runner.pid!).length === 0);
    assert.equal(foldersOf(runner.pid!).length, 1);
    await runVmOk({ command: ['true'] });
    assert.equal(foldersOf(runner.pid!).length, 0);
  });

  it('leaves neither a process nor a file behind', () => {
    assert.deepEqual(foldersOf(process.pid), []);
    assert.deepEqual(processesOf(process.pid), []);
  });
});

/** The folders of a runner. */
function foldersOf(pid: number): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith(`snapbak-vm-${pid}-`));
}

/** Its QEMU and virtiofsd: they have a path in that folder among their arguments. */
function processesOf(pid: number): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((other) => {
      try {
        return readFileSync(`/proc/${other}/cmdline`, 'utf8').includes(`/snapbak-vm-${pid}-`);
      } catch {
        return false; // it ended meanwhile
      }
    });
}
