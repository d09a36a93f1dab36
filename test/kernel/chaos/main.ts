/** `npm run chaos:kernel`: many sessions of the kernel driver in chaos, in machines one after the other. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CHAOS_MACHINE } from '../helpers/chaos.js';
import { ROOT } from '../helpers/scripts.js';
import { VmError } from '../vm/errors.js';
import { DEFAULT_KERNEL, findKernel, KERNEL_NAMES, type KernelName } from '../vm/kernel.js';
import { runVm } from '../vm/run.js';
import { ChaosReport } from './report.js';

const USAGE = `npm run chaos:kernel -- [options]
  --sessions N    how many (default 300)
  --seed N        of all that is drawn (default: by the clock; it is told)
  --first N       number of the first session (default 0): with --sessions 1, that one again
  --cli N         as many with the real program, in the first machine (default 5)
  --kernel NAME   ${KERNEL_NAMES.join(', ')} (default ${DEFAULT_KERNEL})
  --batch N       sessions in a machine (default 75)
Exit status: 0 all was well, 1 it was not, 2 wrong use.`;

class UsageError extends Error {}

const OPTIONS = {
  sessions: { type: 'string', default: '300' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  first: { type: 'string', default: '0' },
  cli: { type: 'string', default: '5' },
  kernel: { type: 'string', default: DEFAULT_KERNEL },
  batch: { type: 'string', default: '75' },
  /** From scripts/chaos-kernel.mjs, which builds it. */
  module: { type: 'string' },
  help: { type: 'boolean', default: false },
} as const;

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function whole(name: string, text: string, least: number): number {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < least)
    throw new UsageError(`--${name}: ${text} is not a whole number from ${least} on`);
  return n;
}

interface Machine {
  kernel: KernelName;
  module: string;
  seed: number;
  first: number;
  sessions: number;
  cli: number;
}

/** One machine. Gives what its sessions told; throws a `VmError` that says what was wrong. */
async function runMachine({ kernel, module, seed, first, sessions, cli }: Machine): Promise<string> {
  const numbers = { SEED: seed, FIRST: first, ROUNDS: sessions, CLI_ROUNDS: cli };
  const result = await runVm({
    ...CHAOS_MACHINE,
    kernel,
    modules: [module],
    // a session takes a second or two; one of the program ten, on a busy machine a minute
    timeoutMs: CHAOS_MACHINE.timeoutMs + (sessions * 10 + cli * 60) * 1000,
    command: ['bash', join(ROOT, 'test/kernel/guest/stories/chaos.sh')],
    env: {
      ...CHAOS_MACHINE.env,
      ...Object.fromEntries(Object.entries(numbers).map(([name, n]) => [name, String(n)])),
      MODULE: module,
      ...(cli === 0 ? { ONLY: 'lose no write' } : {}),
    },
  });
  if (result.status !== 0 || /^not ok/m.test(result.stdout))
    throw new VmError('status', result.stdout + result.stderr, result);
  return result.stdout;
}

async function main(): Promise<number> {
  const values = parse(process.argv.slice(2));
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const { module } = values;
  if (module === undefined) throw new UsageError('--module: the path of dm-snapbak.ko is missing');
  const sessions = whole('sessions', values.sessions, 1);
  const seed = whole('seed', values.seed, 0);
  const first = whole('first', values.first, 0);
  const batch = whole('batch', values.batch, 1);
  const kernel = values.kernel as KernelName;
  const report = new ChaosReport();
  const begin = Date.now();
  console.log(
    `Linux ${findKernel(kernel).release}, seed ${seed}, sessions ${first} to ${first + sessions - 1}`,
  );
  for (let at = 0; at < sessions; at += batch) {
    const machine = { kernel, module, seed, first: first + at, sessions: Math.min(batch, sessions - at) };
    try {
      report.add(await runMachine({ ...machine, cli: at === 0 ? whole('cli', values.cli, 0) : 0 }));
    } catch (error) {
      if (!(error instanceof VmError)) throw error;
      console.error(error.message.replaceAll(/^\{.*\n/gm, ''));
      const again = machine.first + (error.output.stdout.match(/^\{.*"struck"/gm)?.length ?? 0);
      console.error(
        `\nIf it was session ${again}: npm run chaos:kernel -- --seed ${seed} --first ${again} --sessions 1`,
      );
      return 1;
    }
    console.log(`${report.sessions} sessions are over, after ${Math.round((Date.now() - begin) / 1000)} s`);
  }
  console.log(`\n${report.lines().join('\n')}`);
  console.log(`duration      ${Math.round((Date.now() - begin) / 1000)} s`);
  return 0;
}

process.exitCode = await main().catch((error: Error) => {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n${USAGE}`);
  return 2;
});
