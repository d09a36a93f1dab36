/** What every benchmark gets, and what it gives back. */
import type { Cpus } from './processes.js';
import type { Workspace } from './workspace.js';

export interface Context {
  workspace: Workspace;
  cpus: Cpus;
  rounds: number;
  blockSize: number;
  /** Bytes of `image`. */
  imageSize: number;
  /** The incompressible image that every server serves. */
  image: string;
  /** Path of nbdkit-snapbak-plugin.so, or undefined: peers only. */
  plugin: string | undefined;
  /** Path of the built CLI, or undefined. */
  cli: string | undefined;
  /** Progress, for people. */
  log(line: string): void;
}

/** One figure that issue or design demands. */
export interface Goal {
  what: string;
  /** The figure with its unit, for people. */
  measured: string;
  wanted: string;
  met: boolean;
}

export interface BenchmarkResult {
  tables: { title: string; text: string }[];
  goals: Goal[];
  /** Every single measurement, for the JSON. */
  samples: unknown;
  /** What a reader must know to judge the figures. */
  notes?: string[];
}

export interface Benchmark {
  name: string;
  title: string;
  run(context: Context): Promise<BenchmarkResult>;
}

/** A goal of the form "at least `wanted` times". */
export function atLeast(what: string, measured: number, wanted: number): Goal {
  const shown = Number.isNaN(measured) ? 'not measured' : `x${measured.toFixed(2)}`;
  return { what, measured: shown, wanted: `>= x${wanted}`, met: measured >= wanted };
}

/** A goal of the form "at most". */
export function atMost(what: string, measured: number, wanted: number, unit: string): Goal {
  return {
    what,
    measured: `${measured.toFixed(2)} ${unit}`,
    wanted: `<= ${wanted} ${unit}`,
    met: measured <= wanted,
  };
}
