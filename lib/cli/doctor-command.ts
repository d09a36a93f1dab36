/**
 * `snapbak doctor`: what of this machine Snapbak needs, whether it is there,
 * and what to do where it is not.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { arch, release } from 'node:os';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { binding, type NativeBinding } from '../binding.js';
import { formatSize } from '../extent.js';
import { type ModuleFacts, moduleFacts } from '../module/facts.js';
import { findNbdkit, findPlugin } from '../serve/nbdkit.js';
import { TOOL_VERSION } from '../tool-version.js';
import type { Cli } from './cli.js';
import { moduleChecks } from './doctor-module.js';
import { EXIT } from './exit-status.js';

/** One thing that was looked at. */
export interface Check {
  name: string;
  /** `missing`: something does not work without it; `note`: it would be better. */
  state: 'good' | 'note' | 'missing';
  found: string;
  advice?: string;
}

/** What is asked of the machine; tests have one of their own. */
export interface Machine {
  nodeVersion: string;
  kernel: string;
  architecture: string;
  binding(): NativeBinding;
  limits(): Promise<string>;
  nbdkit(): string;
  plugin(): string;
  /** The first line that a program says of its version; rejects if there is none. */
  version(program: string): Promise<string>;
  /** Of the kernel module; rejects where the addon cannot be loaded. */
  moduleFacts(): Promise<ModuleFacts>;
}

const thisMachine: Machine = {
  nodeVersion: process.versions.node,
  kernel: release(),
  architecture: arch(),
  binding,
  limits: () => readFile('/proc/self/limits', 'utf8'),
  nbdkit: () => findNbdkit(),
  plugin: () => findPlugin(),
  async version(program) {
    const { stdout } = await promisify(execFile)(program, ['--version'], { timeout: 10_000 });
    return stdout.split('\n')[0]!.trim();
  },
  moduleFacts: () => moduleFacts(),
};

export function registerDoctor(program: Command, cli: Cli, machine: Machine = thisMachine): void {
  program
    .command('doctor')
    .description('look whether everything is there that Snapbak needs, and say what to do')
    .option('--json', 'one JSON object')
    .action(async ({ json = false }: { json?: boolean }) => {
      const checks = await examine(machine);
      if (json) cli.output.event({ event: 'doctor', checks });
      else for (const check of checks) for (const line of checkLines(check)) cli.output.line(line);
      if (checks.some(({ state }) => state === 'missing')) cli.exit(EXIT.failed);
    });
}

/** All checks; none of them fails the others. */
export async function examine(machine: Machine): Promise<Check[]> {
  return [
    { name: 'kernel', state: 'good', found: `Linux ${machine.kernel}, ${machine.architecture}` },
    checkNode(machine),
    checkAddon(machine),
    await checkMemlock(machine),
    await checkNbdkit(machine),
    checkPlugin(machine),
    await checkNbdfuse(machine),
    ...(await checkKernelDriver(machine)),
  ];
}

function checkNode({ nodeVersion }: Machine): Check {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number);
  const good = major > 20 || (major === 20 && minor >= 10);
  const name = 'node';
  if (good) return { name, state: 'good', found: nodeVersion };
  return { name, state: 'missing', found: nodeVersion, advice: 'install Node.js 20.10 or later' };
}

function checkAddon(machine: Machine): Check {
  const name = 'addon';
  try {
    const native = machine.binding();
    const found = `contract version ${native.abiVersion}, CRC32C by ${native.crc32cImplementation()}`;
    return { name, state: 'good', found };
  } catch (error) {
    const found = `not loaded: ${firstLine(error)}`;
    return {
      name,
      state: 'missing',
      found,
      advice: 'build it: npm run build:native (needs g++, make, python3)',
    };
  }
}

/** Slots and buffers are locked in memory where the limit permits it. */
async function checkMemlock(machine: Machine): Promise<Check> {
  const name = 'memlock';
  const line = /^Max locked memory\s+(\S+)/m.exec(await machine.limits().catch(() => ''));
  if (line === null) return { name, state: 'note', found: 'unknown' };
  if (line[1] === 'unlimited') return { name, state: 'good', found: 'unlimited' };
  const bytes = Number(line[1]);
  if (bytes >= 128 * 2 ** 20) return { name, state: 'good', found: formatSize(bytes) };
  const advice = 'buffers may be swapped out under pressure; raise "ulimit -l" (limits.conf: memlock)';
  return { name, state: 'note', found: formatSize(bytes), advice };
}

async function checkNbdkit(machine: Machine): Promise<Check> {
  const name = 'nbdkit';
  try {
    const path = machine.nbdkit();
    const version = await machine.version(path);
    const found = `${version} (${path})`;
    if (!abortsOnHangUp(version)) return { name, state: 'good', found };
    const advice =
      'this version aborts when an NBD client hangs up with replies outstanding (fixed in 1.33.10 and 1.34); ' +
      'other clients and a running backup then end, the image is unharmed; take a newer nbdkit where you can';
    return { name, state: 'note', found, advice };
  } catch (error) {
    const advice = '"snapbak serve" needs it: apt-get install nbdkit (Fedora: dnf install nbdkit)';
    return { name, state: 'missing', found: firstLine(error), advice };
  }
}

/** nbdkit's assertion in raw_send_socket: since 1.32.4, until its commit 9d82aa4f in 1.33.10. */
function abortsOnHangUp(version: string): boolean {
  const [, minor = 0, patch = 0] = /\b1\.(\d+)\.(\d+)/.exec(version)?.map(Number) ?? [];
  return (minor === 32 && patch >= 4) || (minor === 33 && patch < 10);
}

function checkPlugin(machine: Machine): Check {
  const name = 'plugin';
  try {
    return { name, state: 'good', found: machine.plugin() };
  } catch (error) {
    const advice = '"snapbak serve" needs it: npm run build:plugin (needs nbdkit-plugin-dev, cmake, g++)';
    return { name, state: 'missing', found: firstLine(error), advice };
  }
}

async function checkNbdfuse(machine: Machine): Promise<Check> {
  const name = 'nbdfuse';
  try {
    return { name, state: 'good', found: await machine.version('nbdfuse') };
  } catch {
    const advice = 'shows an export as a file that can be mounted: apt-get install libnbd-bin nbdfuse fuse3';
    return { name, state: 'note', found: 'not installed', advice };
  }
}

async function checkKernelDriver(machine: Machine): Promise<Check[]> {
  try {
    return moduleChecks(await machine.moduleFacts(), TOOL_VERSION, machine.binding().abiVersion);
  } catch (error) {
    return [{ name: 'module', state: 'note', found: `unknown: ${firstLine(error)}` }];
  }
}

function firstLine(error: unknown): string {
  return String((error as Error | undefined)?.message ?? error).split('\n')[0]!;
}

function checkLines({ name, state, found, advice }: Check): string[] {
  const mark = { good: 'ok', note: '--', missing: 'MISSING' }[state];
  const lines = [`${mark.padEnd(8)}${name.padEnd(14)}${found}`];
  if (advice !== undefined) lines.push(`${' '.repeat(22)}${advice}`);
  return lines;
}
