// npm run bench:kernel: installs and builds what the kernel benchmarks need (a
// kernel, the module, the guest's programs, the CLI), and runs them in virtual
// machines. Options: npm run bench:kernel -- --help
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { buildModule } from './lib/module.mjs';
import { ensurePackages, KERNEL_PACKAGES } from './lib/packages.mjs';
import { runProgram } from './lib/program.mjs';
import { fail, quiet, ROOT } from './lib/run.mjs';

const args = process.argv.slice(2);
const say = (text) => console.error(text);

/** Arguments besides those of the caller. */
async function prepare() {
  if (args.includes('--help')) {
    await ensureNodeModules();
    return [];
  }
  const { values } = parseArgs({ args, strict: false, options: { kernel: { type: 'string' } } });
  await ensurePackages(KERNEL_PACKAGES, 'for the virtual machines');
  await ensureBuilt();
  await quiet('bench-guest', 'make', ['-C', join(ROOT, 'bench/kernel/guest')]);
  return ['--module', await buildModule(values.kernel ?? 'debian12', { say })];
}

const own = await prepare().catch(fail);
runProgram('bench/kernel/main.ts', [...own, ...args]);
