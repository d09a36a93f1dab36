/** Boots the virtual machine that a benchmark asks for, runs its part in there, and gives the result. */
import { fileURLToPath } from 'node:url';
import type { Disk as VmDisk } from '../../test/kernel/vm/disks.js';
import type { KernelName } from '../../test/kernel/vm/kernel.js';
import { runVmOk } from '../../test/kernel/vm/run.js';
import type { BenchmarkResult } from '../lib/context.js';
import type { Workspace } from '../lib/workspace.js';
import type { GuestOptions } from './guest.js';
import type { Disk, KernelBenchmark } from './lib/benchmark.js';

const GUEST = fileURLToPath(new URL('guest.ts', import.meta.url));
const TSX = import.meta.resolve('tsx');
const TIMEOUT_MS = 1_200_000;

export interface Host {
  kernel: KernelName;
  /** dm-snapbak.ko for that kernel. */
  module: string;
  /** On tmpfs: the disks lie there. */
  workspace: Workspace;
}

function image(host: Host, { bytes, content }: Disk, index: number): VmDisk {
  const name = `disk${index}.img`;
  const { workspace } = host;
  return {
    path: content === 'random' ? workspace.randomFile(name, bytes) : workspace.sparseFile(name, bytes),
  };
}

export async function runInVm(
  benchmark: KernelBenchmark,
  options: GuestOptions,
  host: Host,
): Promise<BenchmarkResult> {
  const { cpus, memoryMiB, disks, countInstructions = false } = benchmark.machine;
  const images = disks.map((disk, index) => image(host, disk, index));
  const { stdout } = await runVmOk({
    kernel: host.kernel,
    command: [process.execPath, '--import', TSX, GUEST, benchmark.name, JSON.stringify(options)],
    modules: [host.module],
    cpus,
    memory: `${memoryMiB}M`,
    disks: images,
    // what is read of a disk is never written, so that another try finds it as it was
    repeatable: true,
    countInstructions,
    timeoutMs: TIMEOUT_MS,
    onStderr: (text) => process.stderr.write(text),
  });
  host.workspace.remove(...disks.map((_, index) => `disk${index}.img`));
  return JSON.parse(stdout) as BenchmarkResult;
}
