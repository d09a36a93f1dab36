/**
 * `npm run bench:kernel`: the kernel driver's benchmarks, each in a virtual machine of its own, in which
 * everything that is compared runs in turn. Ratios are what counts: the machine is emulated.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findKernel, KERNEL_NAMES, type KernelName } from '../../test/kernel/vm/kernel.js';
import { chosenOf, parsed, roundsOf, runCommand, UsageError } from '../lib/command.js';
import type { BenchmarkResult } from '../lib/context.js';
import { machineFacts } from '../lib/facts.js';
import { goalTable, keep } from '../lib/report.js';
import { makeWorkspace } from '../lib/workspace.js';
import { BENCHMARKS } from './benchmarks.js';
import { runInVm } from './vm.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const BLOCK_SIZE = 65_536;
const USAGE = `npm run bench:kernel -- [options]
  --rounds N      rounds of each benchmark (default 5; the median counts)
  --only NAME     ${BENCHMARKS.map(({ name }) => name).join(', ')}; may be given several times
  --kernel NAME   ${KERNEL_NAMES.join(', ')} (default debian12)
  --json          the whole run as JSON, instead of tables
Figures are told, not judged: the exit status is 0 when all of it ran.`;

const OPTIONS = {
  rounds: { type: 'string', default: '5' },
  only: { type: 'string', multiple: true },
  kernel: { type: 'string', default: 'debian12' },
  json: { type: 'boolean', default: false },
  /** From scripts/bench-kernel.mjs, which builds it. */
  module: { type: 'string' },
  help: { type: 'boolean', default: false },
} as const;

function readOptions(args: string[]) {
  const values = parsed(() => parseArgs({ args, options: OPTIONS }).values);
  return { ...values, rounds: roundsOf(values.rounds), chosen: chosenOf(BENCHMARKS, values.only) };
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return;
  }
  if (options.module === undefined) throw new UsageError('--module: the path of dm-snapbak.ko is missing');
  const { rounds, chosen, module } = options;
  const kernel = findKernel(options.kernel);
  const bytes = chosen.map(({ machine }) => machine.disks.reduce((sum, disk) => sum + disk.bytes, 0));
  const workspace = makeWorkspace(Math.max(...bytes) + 2 ** 20);
  const host = { kernel: options.kernel as KernelName, module, workspace };
  const facts = { ...machineFacts(), guestKernel: kernel.release };
  const say = options.json ? console.error : console.log;
  say(
    `Linux ${kernel.release} in QEMU's emulation, on ${machineFacts().cpu}, Linux ${machineFacts().kernel}`,
  );
  const results: Record<string, BenchmarkResult & { tookSeconds: number }> = {};
  for (const benchmark of chosen) {
    say(`\n== ${benchmark.title} (${benchmark.name})`);
    const begin = performance.now();
    const result = await runInVm(benchmark, { rounds, blockSize: BLOCK_SIZE, cli: CLI }, host);
    const tookSeconds = Math.round((performance.now() - begin) / 1000);
    results[benchmark.name] = { ...result, tookSeconds };
    for (const { title, text } of result.tables) say(`\n${title}\n${text}`);
    for (const note of result.notes ?? []) say(`note: ${note}`);
    say(`(${tookSeconds} s)`);
  }
  say(`\n== Goals\n${goalTable(Object.values(results).flatMap((result) => result.goals))}`);
  const run = { facts, rounds, results };
  say(`\nkept in ${keep(run, 'kernel-')}`);
  if (options.json) console.log(JSON.stringify(run));
}

await runCommand(main, USAGE);
