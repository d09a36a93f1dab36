/** The command of a run, as a script that the guest reads through the shared root. */
import { VmError } from './errors.js';

export interface GuestCommand {
  command: string[];
  cwd: string;
  env: Record<string, string>;
  /** Files of kernel modules that are loaded before, with what they depend on. */
  modules: string[];
}

/** One word for a shell. */
export const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

export function guestScript({ command, cwd, env, modules }: GuestCommand): string {
  if (command.length === 0) throw new VmError('rig', 'no command to run');
  const lines = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}`);
  for (const module of modules) {
    const file = quote(module);
    lines.push(
      `for needed in $(modinfo -F depends ${file} | tr , ' '); do modprobe "$needed" || exit 72; done`,
      `insmod ${file} || exit 72`,
    );
  }
  lines.push(`cd ${quote(cwd)} || exit 72`, `exec ${command.map(quote).join(' ')}`);
  return `${lines.join('\n')}\n`;
}
