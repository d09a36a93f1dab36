/**
 * Runs a command as root in a virtual machine that sees the host's programs and files. The kernel's own
 * complaints fail the run, whatever the command's exit status says.
 */
import { realpathSync, writeFileSync } from 'node:fs';
import { bootFiles } from './boot-files.js';
import { GuestConsole } from './console.js';
import { type Disk, diskOptions } from './disks.js';
import { VmError } from './errors.js';
import { guestScript } from './guest-command.js';
import { DEFAULT_KERNEL, findKernel, type KernelName } from './kernel.js';
import { commandFile, leaksFile, Machine, sharesFile } from './machine.js';
import { makeScratch, removeScratch } from './scratch.js';

export interface VmOptions {
  /** `debian12` by default, or what the environment's `SNAPBAK_TEST_KERNEL` names. */
  kernel?: KernelName;
  /** Program and arguments; the guest has the host's programs. Its standard input is empty. */
  command: string[];
  /** /dev/vda, /dev/vdb, ...: a size (`1G`: a scratch disk) or a path (an image or device of the host). */
  disks?: Disk[];
  /** Folders of the host that the guest may write, by the same path. It sees all others, and writes to memory. */
  shares?: string[];
  /** Files of kernel modules that are loaded before the command, with the modules that they need. */
  modules?: string[];
  /** As QEMU takes it; `1G` by default, `2G` for the debug kernel. */
  memory?: string;
  /** 2 by default. */
  cpus?: number;
  /** For the command, from its start; 300,000 by default. The debug kernel gets five times as long. */
  timeoutMs?: number;
  /**
   * The guest's clock counts its instructions, one a nanosecond: what a path costs, free of the host's noise.
   * Its processors take turns then.
   */
  countInstructions?: boolean;
  cwd?: string;
  /** Besides PATH, HOME, LANG, and DM_DISABLE_UDEV=1 (no udev runs in the guest). */
  env?: Record<string, string>;
  kernelArgs?: string[];
  /** A task that waits so long for I/O or a lock is a complaint; 60 by default, 120 for the debug kernel. */
  hungTaskSeconds?: number;
  /** Complaints that the command provokes on purpose. */
  allow?: RegExp[];
  /** With the debug kernel: look for leaked memory after the command, which takes ten seconds; true by default. */
  leaks?: boolean;
  /** May be run again when the emulator failed: by default without `shares` and writable disks of the host. */
  repeatable?: boolean;
  /** Gets output as it comes. */
  onStdout?: (text: string) => void;
  onStderr?: (text: string) => void;
}

export interface VmResult {
  /** The command's exit status, as a shell tells it. */
  status: number;
  stdout: string;
  stderr: string;
  /** The kernel's messages of the level warning and above. */
  console: string;
  /** From the command's start to its end. */
  tookMs: number;
}

/** Starts of a machine before its failing is believed: QEMU 7.2 hangs a guest's boot now and then. */
const TRIES = 4;

/** Throws a `VmError` when there is no exit status to tell, or when the kernel complained. */
export async function runVm(options: VmOptions): Promise<VmResult> {
  const repeatable = options.repeatable ?? isRepeatable(options);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await runOnce(options);
    } catch (error) {
      if (!(error instanceof VmError) || attempt === TRIES) throw error;
      const again = error.code === 'boot' || (error.code === 'emulator' && repeatable);
      if (!again) throw error;
    }
  }
}

/** Runs a command that must succeed. */
export async function runVmOk(options: VmOptions): Promise<VmResult> {
  const result = await runVm(options);
  if (result.status === 0) return result;
  throw new VmError(
    'status',
    `${options.command.join(' ')}: exit status ${result.status}\n${result.stdout}${result.stderr}`,
    result,
  );
}

function isRepeatable({ shares = [], disks = [] }: VmOptions): boolean {
  return shares.length === 0 && disks.map(diskOptions).every(({ path, readOnly }) => !path || readOnly);
}

async function runOnce(options: VmOptions): Promise<VmResult> {
  const kernel = findKernel(options.kernel ?? DEFAULT_KERNEL);
  if (process.getuid?.() !== 0) throw new VmError('rig', 'sharing the root with a guest needs root');
  const scratch = makeScratch();
  let stdout = '';
  let stderr = '';
  const console = new GuestConsole(options.allow, () => machine.wake());
  const shares = (options.shares ?? []).map((folder) => realpathSync(folder));
  const machine = new Machine(
    {
      kernel,
      boot: bootFiles(kernel),
      disks: options.disks ?? [],
      shares,
      memory: options.memory ?? (kernel.debug ? '2G' : '1G'),
      cpus: options.cpus ?? 2,
      countInstructions: options.countInstructions ?? false,
      kernelArgs: options.kernelArgs ?? [],
      hungTaskSeconds: options.hungTaskSeconds ?? (kernel.debug ? 120 : 60),
      console,
      onStdout(text) {
        stdout += text;
        options.onStdout?.(text);
      },
      onStderr(text) {
        stderr += text;
        options.onStderr?.(text);
      },
    },
    scratch,
  );
  const failure = (code: VmError['code'], what: string) =>
    new VmError(code, `${what}\n${console.excerpt()}`, { stdout, stderr, console: console.text });
  try {
    const { PATH = '', HOME = '/root', LANG = 'C.UTF-8' } = process.env;
    const env = { PATH: `${PATH}:/usr/sbin:/sbin`, HOME, LANG, DM_DISABLE_UDEV: '1', ...options.env };
    const { command, cwd = process.cwd(), modules = [] } = options;
    writeFileSync(commandFile(scratch), guestScript({ command, cwd, env, modules }));
    writeFileSync(sharesFile(scratch), shares.map((folder) => `${folder}\n`).join(''));
    if (options.leaks !== false) writeFileSync(leaksFile(scratch), '');

    await machine.start();
    const bootMs = kernel.debug ? 240_000 : 60_000;
    const booted = await machine.until(() => machine.up, bootMs);
    if (!machine.up) {
      if (console.text === '' && !machine.running)
        throw failure('rig', `QEMU does not start: ${machine.log}`);
      const how = booted ? 'ended before' : `did not come within ${bootMs / 1000} s to`;
      throw failure('boot', `the machine ${how} its command ${machine.log}`);
    }
    const begin = Date.now();
    const offMs = kernel.debug ? 900_000 : 60_000;
    const timeoutMs = (options.timeoutMs ?? 300_000) * (kernel.debug ? 5 : 1);
    const ended = () => machine.status !== undefined || console.hung;
    const inTime = await machine.until(ended, timeoutMs);
    const tookMs = Date.now() - begin;
    // the search for leaks and the power-off come after the status
    const off = inTime && !console.hung && (await machine.until(() => console.hung, offMs));
    if (!off || console.hung) await machine.showBlockedTasks();
    await machine.stop();

    if (console.stale) throw failure('emulator', 'QEMU ran stale code of the guest');
    if (console.report !== undefined) throw failure('report', `the kernel complained: ${console.report}`);
    if (!inTime) throw failure('timeout', `the command did not end within ${timeoutMs / 1000} s`);
    if (!off) throw failure('timeout', `the machine did not go down within ${offMs / 1000} s`);
    if (machine.status === undefined) {
      throw failure('died', `the machine ended before its command did ${machine.log}`);
    }
    return { status: machine.status, stdout, stderr, console: console.text, tookMs };
  } finally {
    await machine.stop();
    removeScratch(scratch);
  }
}
