/**
 * One start of a virtual machine: QEMU's own emulation (TCG), the host's root shared by virtiofs, a serial
 * console and three virtio-serial ports. Retries and judgement are run.ts's.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BootFiles } from './boot-files.js';
import { type Child, startChild } from './child.js';
import type { GuestConsole } from './console.js';
import { type Disk, diskArgs } from './disks.js';
import { HostSocket } from './host-socket.js';
import type { Kernel } from './kernel.js';
import { type Share, startShare } from './shares.js';

export interface MachineOptions {
  kernel: Kernel;
  boot: BootFiles;
  disks: Disk[];
  /** Folders of the host that the guest may write. */
  shares: string[];
  /** As QEMU takes it: `1G`. */
  memory: string;
  cpus: number;
  countInstructions: boolean;
  kernelArgs: string[];
  hungTaskSeconds: number;
  console: GuestConsole;
  onStdout: (text: string) => void;
  onStderr: (text: string) => void;
}

/** A folder that is empty but for the command's script. */
export class Machine {
  /** The guest came to its command. */
  up = false;
  /** The command's exit status, once it ended. */
  status: number | undefined;
  /** What QEMU said. */
  log = '';
  #options: MachineOptions;
  #scratch: string;
  #qemu: Child | undefined;
  #shares: Share[] = [];
  #sockets: HostSocket[] = [];
  #lines = '';
  #wake: (() => void)[] = [];

  constructor(options: MachineOptions, scratch: string) {
    this.#options = options;
    this.#scratch = scratch;
  }

  async start(): Promise<void> {
    const { disks, shares, console, onStdout, onStderr } = this.#options;
    for (const [index, folder] of ['/', ...shares].entries()) {
      this.#shares.push(await startShare(index === 0 ? 'root' : `share${index - 1}`, folder, this.#scratch));
    }
    const sockets: [name: string, onData: (text: string) => void][] = [
      ['console', (text) => console.push(text)],
      ['monitor', () => {}],
      ['stdout', onStdout],
      ['stderr', onStderr],
      ['status', (text) => this.#readStatus(text)],
    ];
    for (const [name, onData] of sockets) {
      this.#sockets.push(await HostSocket.listen(name, this.#scratch, onData));
    }
    const args = [
      ...this.#machineArgs(),
      ...this.#sockets.flatMap(({ args }) => args),
      ...['-serial', 'chardev:console', '-mon', 'chardev=monitor,mode=readline'],
      ...['-device', 'virtio-serial-pci'],
      ...['stdout', 'stderr', 'status'].flatMap((name, index) => [
        '-device',
        `virtserialport,chardev=${name},nr=${index + 1}`,
      ]),
      ...this.#shares.flatMap(({ args }) => args),
      ...disks.flatMap((disk, index) => diskArgs(disk, index, this.#scratch)),
    ];
    this.#qemu = startChild('qemu-system-x86_64', args, ['ignore', 'pipe', 'pipe']);
    for (const stream of [this.#qemu.process.stdout, this.#qemu.process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log += text;
      });
    }
    void this.#qemu.ended.then(() => this.#changed());
  }

  #machineArgs(): string[] {
    const { kernel, boot, memory, cpus, kernelArgs, hungTaskSeconds } = this.#options;
    const { countInstructions } = this.#options;
    const khz = countInstructions ? 1_000_000 : hostKhz();
    const append = [
      'console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off nokaslr',
      clockWords(kernel, khz),
      'cryptomgr.notests random.trust_cpu=on',
      // Debian's kernels clear all memory that they hand out, which hides a driver that forgets to; emulated,
      // it is half of what writing to a file costs
      'init_on_alloc=0',
      // one processor until init.sh: see there; the lock prefixes stay in the code
      'maxcpus=1 noreplace-smp',
      // the emulated processors stand still now and then; the debug kernel's watchdogs get time for that
      kernel.debug ? 'watchdog_thresh=60 workqueue.watchdog_thresh=120' : 'nowatchdog',
      `vm.run=${this.#scratch} vm.modules=${kernel.modules} vm.hung=${hungTaskSeconds}`,
      ...kernelArgs,
    ];
    return [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-L', '/usr/share/qemu', '-L', '/usr/share/seabios'],
      ...['-machine', 'microvm,pcie=on,acpi=on,rtc=on,isa-serial=on,memory-backend=memory'],
      // without features that the emulation is slow at (erms: it copies a byte at a time then; sse4.2: its
      // CRC32C takes three times as long as the table that stands in for it)
      ...['-cpu', 'max,la57=off,-smap,-smep,-pcid,-umip,-pku,-cx16,-erms,-sse4.2'],
      ...(countInstructions
        ? ['-accel', 'tcg', '-icount', 'shift=0,sleep=off']
        : ['-accel', 'tcg,thread=multi']),
      ...['-smp', String(cpus), '-m', memory],
      ...['-object', `memory-backend-memfd,id=memory,size=${memory},share=on`],
      ...['-kernel', boot.image, '-initrd', boot.initrd, '-append', append.join(' ')],
    ];
  }

  #readStatus(text: string): void {
    const lines = (this.#lines + text).split('\n');
    this.#lines = lines.pop() ?? '';
    for (const line of lines) {
      if (line === 'up') this.up = true;
      else if (line.startsWith('status ')) this.status = Number(line.slice('status '.length));
    }
    this.#changed();
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  get running(): boolean {
    return (
      this.#qemu !== undefined &&
      this.#qemu.process.exitCode === null &&
      this.#qemu.process.signalCode === null
    );
  }

  /** Waits until `done` holds or QEMU ended; false when neither happened within `timeoutMs`. */
  async until(done: () => boolean, timeoutMs: number): Promise<boolean> {
    const end = Date.now() + timeoutMs;
    while (!done() && this.running) {
      const left = end - Date.now();
      if (left <= 0) return false;
      const timer = new AbortController();
      const changed = new Promise<void>((resolve) => this.#wake.push(resolve));
      await Promise.race([
        changed,
        sleep(left, undefined, { signal: timer.signal, ref: false }).catch(() => {}),
      ]);
      timer.abort();
    }
    return true;
  }

  /** Ends the waiting of `until`, which looks again. */
  wake(): void {
    this.#changed();
  }

  /** Lets the guest's kernel tell on the console which tasks wait, and for what. */
  async showBlockedTasks(): Promise<void> {
    const [console, monitor] = this.#sockets;
    // a break on the serial line, then a letter: Documentation/admin-guide/sysrq.rst
    for (const letter of ['8', 'w']) {
      monitor?.write('chardev-send-break console\n');
      await sleep(300);
      console?.write(letter);
      await sleep(300);
    }
    await sleep(2000);
  }

  /** Ends whatever still runs and waits for the last words. */
  async stop(): Promise<void> {
    await this.#qemu?.kill();
    for (const { child } of this.#shares) await child.kill();
    for (const socket of this.#sockets) await socket.close();
  }
}

/** For a kernel's command line: the clock of its processor, which the emulation would let it measure wrongly. */
export function clockWords(kernel: Kernel, khz = hostKhz()): string {
  return `tsc=reliable tsc_early_khz=${khz} lpj=${Math.round((khz * 1000) / kernel.hz)} no_timer_check`;
}

/** The clock of the host's processor: told to the guest, it need not measure. */
function hostKhz(): number {
  const mhz = /^cpu MHz\s*:\s*([\d.]+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
  return Math.round(Number(mhz ?? 1000) * 1000);
}

/** Where the guest reads its command. */
export const commandFile = (scratch: string) => join(scratch, 'command');
/** Where it reads the folders that it may write, a line each. */
export const sharesFile = (scratch: string) => join(scratch, 'shares');
/** Its being there asks for a search for leaks. */
export const leaksFile = (scratch: string) => join(scratch, 'leaks');
