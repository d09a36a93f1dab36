// npm run bench: installs fio and the peers when it may, builds, and runs the
// benchmarks side by side. Options: npm run bench -- --help
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { BENCH_PACKAGES, ensurePackages } from './lib/packages.mjs';
import { runProgram } from './lib/program.mjs';
import { fail } from './lib/run.mjs';

const args = process.argv.slice(2);

try {
  if (args.includes('--help')) {
    await ensureNodeModules();
  } else {
    await ensurePackages(BENCH_PACKAGES, 'for the benchmarks');
    await (args.includes('--peers-only') ? ensureNodeModules() : ensureBuilt());
  }
} catch (error) {
  fail(error);
}

runProgram('bench/main.ts', args);
