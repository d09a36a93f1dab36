/** The scripts that build and check the module, as the tests call them: as a user does. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must, type Result, run } from '../../helpers/programs.js';
import type { KernelName } from '../vm/kernel.js';

export const ROOT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** Runs scripts/NAME.mjs, whatever its exit status. */
export function script(name: string, ...args: string[]): Promise<Result> {
  return run(process.execPath, [join(ROOT, `scripts/${name}.mjs`), ...args], { timeoutMs: 900_000 });
}

/** The path of dm-snapbak.ko for a kernel, built when its sources changed: the module's, or those in a folder. */
export async function moduleFor(kernel: KernelName, sources?: string): Promise<string> {
  const from = sources === undefined ? [] : ['--sources', sources];
  const args = [join(ROOT, 'scripts/module.mjs'), ...from, kernel];
  return (await must(process.execPath, args, { timeoutMs: 900_000 })).trim();
}
