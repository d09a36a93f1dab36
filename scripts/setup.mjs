// Installs what building and checking need, for .ci/run.
//   node scripts/setup.mjs             Debian packages and node_modules
//   node scripts/setup.mjs --rebuild   and the addon and the plugin, from nothing, warnings being errors
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureAddon, ensureNodeModules, ensurePlugin } from './lib/build.mjs';
import {
  BUILD_PACKAGES,
  CHECK_PACKAGES,
  DEBUG_KERNEL_PACKAGES,
  ensurePackages,
  KERNEL_PACKAGES,
  MODEL_PACKAGES,
  NATIVE_TEST_PACKAGES,
  SCENARIO_PACKAGES,
} from './lib/packages.mjs';
import { fail, ROOT } from './lib/run.mjs';
import { good } from './lib/terminal.mjs';

const { values } = parseArgs({ options: { rebuild: { type: 'boolean', default: false } } });

try {
  const packages = [
    ...BUILD_PACKAGES,
    ...CHECK_PACKAGES,
    ...NATIVE_TEST_PACKAGES,
    ...MODEL_PACKAGES,
    ...SCENARIO_PACKAGES,
    ...KERNEL_PACKAGES,
    ...DEBUG_KERNEL_PACKAGES,
  ];
  await ensurePackages(packages, 'for the checks and the tests');
  await ensureNodeModules();
  good('packages and node_modules are there');
  if (values.rebuild) {
    rmSync(join(ROOT, 'build'), { recursive: true, force: true });
    await ensureAddon({ force: true });
    await ensurePlugin();
    good('the addon and the plugin are built');
  }
} catch (error) {
  fail(error);
}
