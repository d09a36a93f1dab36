// npm run chaos:kernel: installs and builds what the chaos of the kernel driver
// needs (a kernel, the module, the guest's programs, the CLI), and runs it in
// virtual machines. Options: npm run chaos:kernel -- --help
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { buildModule } from './lib/module.mjs';
import { ensurePackages, KERNEL_PACKAGES } from './lib/packages.mjs';
import { runProgram } from './lib/program.mjs';
import { fail, quiet, ROOT } from './lib/run.mjs';

const args = process.argv.slice(2);
const say = (text) => console.error(text);
const { values } = parseArgs({
  args,
  strict: false,
  options: { help: { type: 'boolean' }, kernel: { type: 'string' } },
});
const kernel = values.kernel ?? process.env.SNAPBAK_TEST_KERNEL ?? 'debian12';

/** Arguments besides those of the caller. */
async function prepare() {
  await ensureNodeModules();
  if (values.help) return [];
  await ensurePackages(KERNEL_PACKAGES, 'for the virtual machines');
  await ensureBuilt();
  await quiet('guest-programs', 'make', ['-C', join(ROOT, 'test/kernel/guest')]);
  return ['--module', await buildModule(kernel, { say })];
}

const own = await prepare().catch(fail);
// what depends on the kernel looks there
const env = { SNAPBAK_TEST_KERNEL: kernel };
runProgram('test/kernel/chaos/main.ts', [...own, ...args], { env });
