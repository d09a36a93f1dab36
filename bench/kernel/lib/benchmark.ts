/** What a kernel benchmark is: a virtual machine that the host boots for it, and a part that runs in there. */
import type { BenchmarkResult } from '../../lib/context.js';

/** A disk of the machine: /dev/vda, /dev/vdb, ... in order. */
export interface Disk {
  bytes: number;
  /** `random`: nothing in it compresses or is zero; `nothing`: one hole. */
  content: 'random' | 'nothing';
}

export interface Machine {
  cpus: number;
  memoryMiB: number;
  disks: Disk[];
  /** The guest's clock counts its instructions, one a nanosecond, whatever else the host does. */
  countInstructions?: boolean;
}

/** What the part in the guest gets. */
export interface GuestContext {
  rounds: number;
  blockSize: number;
  /** dist/cli/main.js. */
  cli: string;
  /** Progress, for people. */
  log(line: string): void;
}

export interface KernelBenchmark {
  name: string;
  title: string;
  machine: Machine;
  run(context: GuestContext): Promise<BenchmarkResult>;
}
