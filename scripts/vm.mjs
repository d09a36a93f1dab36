// Runs a command in a virtual machine with one of the kernels: node scripts/vm.mjs --help
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fail, ROOT } from './lib/run.mjs';

const main = join(ROOT, 'test/kernel/vm/main.ts');
// the command runs in the folder that the caller is in
const child = spawn(
  process.execPath,
  ['--import', import.meta.resolve('tsx'), main, ...process.argv.slice(2)],
  {
    stdio: 'inherit',
  },
);
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.once('error', fail);
child.once('close', (code) => process.exit(code ?? 1));
