// npm run chaos: installs what it may, builds, and runs sessions in which
// everything goes wrong. Options: npm run chaos -- --help
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { ensurePackages, SCENARIO_PACKAGES } from './lib/packages.mjs';
import { runProgram } from './lib/program.mjs';
import { fail } from './lib/run.mjs';

const args = process.argv.slice(2);

try {
  if (args.includes('--help')) {
    await ensureNodeModules();
  } else {
    await ensurePackages(SCENARIO_PACKAGES, 'for chaos');
    await ensureBuilt();
  }
} catch (error) {
  fail(error);
}

runProgram('test/chaos/main.ts', args);
