// npm run soak: sessions back to back under load, for half an hour, and whether
// memory stays flat meanwhile. Options: npm run soak -- --help
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { BUILD_PACKAGES, ensurePackages, SCENARIO_PACKAGES } from './lib/packages.mjs';
import { runProgram } from './lib/program.mjs';
import { fail } from './lib/run.mjs';

const args = process.argv.slice(2);

try {
  await ensurePackages([...BUILD_PACKAGES, ...SCENARIO_PACKAGES], 'for the soak');
  await ensureNodeModules();
  if (!args.includes('--help')) await ensureBuilt();
} catch (error) {
  fail(error);
}

runProgram('test/soak/main.ts', args);
