// Runs a program written in TypeScript in the place of a script: the script
// prepares what the program needs, and ends as it does.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fail, ROOT } from './run.mjs';

/**
 * The program sees the terminal, and the arguments as they are. It undoes what
 * it did before it ends, and this process ends after it: Ctrl-C at a terminal
 * reaches both, a signal from elsewhere only this one.
 */
export function runProgram(path, args, { env = {} } = {}) {
  const child = spawn(process.execPath, ['--import', 'tsx', join(ROOT, path), ...args], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  process.on('SIGINT', () => {});
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.once('error', fail);
  child.once('close', (code) => process.exit(code ?? 1));
}
