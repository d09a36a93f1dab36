// npm run bench: installs fio and the peers when it may, builds, and runs the
// benchmarks side by side. Options: npm run bench -- --help
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { BENCH_PACKAGES, ensurePackages } from './lib/packages.mjs';
import { fail, ROOT } from './lib/run.mjs';

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

const child = spawn(process.execPath, ['--import', 'tsx', join(ROOT, 'bench/main.ts'), ...args], {
  cwd: ROOT,
  stdio: 'inherit',
});
// The benchmarks undo what they did before they end; this process ends after them. Ctrl-C at a terminal
// reaches both, a signal from elsewhere only this one.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.once('error', fail);
child.once('close', (code) => process.exit(code ?? 1));
