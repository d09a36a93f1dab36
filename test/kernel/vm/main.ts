/** `node scripts/vm.mjs`: runs a command in a virtual machine, for people. */
import { parseArgs } from 'node:util';
import { VmError, type VmErrorCode } from './errors.js';
import { DEFAULT_KERNEL, KERNEL_NAMES, type KernelName } from './kernel.js';
import { runVm } from './run.js';

const USAGE = `node scripts/vm.mjs [options] [--] COMMAND [ARGUMENT...]
Runs the command as root in a virtual machine that sees this machine's files, and ends with its exit status.
  -k, --kernel NAME     ${KERNEL_NAMES.join(', ')} (default ${DEFAULT_KERNEL})
  -d, --disk SIZE|FILE  /dev/vda, /dev/vdb, ...: a scratch disk (1G), or an image or device
  -w, --share FOLDER    the guest may write there; everywhere else it writes to memory
  -i, --module FILE     load this kernel module, and what it needs, before
  -m, --memory SIZE     default 1G (debug: 2G)
  -c, --cpus N          default 2
  -t, --timeout SECONDS default 300
  -e, --env NAME=VALUE  set in the guest
  -a, --append ARGUMENT for the kernel's command line
  -v, --verbose         print the kernel's messages at the end
Exit status: the command's; 70 the kernel complained, 124 time-out, 71 the machine died, 72 anything else.`;

const STATUS: Partial<Record<VmErrorCode, number>> = { report: 70, died: 71, timeout: 124 };

const options = {
  kernel: { type: 'string', short: 'k', default: DEFAULT_KERNEL },
  disk: { type: 'string', short: 'd', multiple: true, default: [] as string[] },
  share: { type: 'string', short: 'w', multiple: true, default: [] as string[] },
  module: { type: 'string', short: 'i', multiple: true, default: [] as string[] },
  memory: { type: 'string', short: 'm' },
  cpus: { type: 'string', short: 'c', default: '2' },
  timeout: { type: 'string', short: 't', default: '300' },
  env: { type: 'string', short: 'e', multiple: true, default: [] as string[] },
  append: { type: 'string', short: 'a', multiple: true, default: [] as string[] },
  verbose: { type: 'boolean', short: 'v', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** The command begins at the first word that is no option: its own options are not ours. */
function splitArgs(args: string[]): { ours: string[]; command: string[] } {
  let at = 0;
  while (at < args.length && args[at]!.startsWith('-') && args[at] !== '--') {
    const [name, inline] = args[at]!.replace(/^-+/, '').split('=', 2);
    const known = Object.entries(options).find(
      ([long, option]) => long === name || ('short' in option && option.short === name),
    )?.[1];
    at += known?.type === 'string' && inline === undefined ? 2 : 1;
  }
  return { ours: args.slice(0, at), command: args.slice(args[at] === '--' ? at + 1 : at) };
}

async function main(args: string[]): Promise<number> {
  const { ours, command } = splitArgs(args);
  const { values } = parseArgs({ args: ours, options });
  if (values.help || command.length === 0) {
    console.log(USAGE);
    return values.help ? 0 : 72;
  }
  try {
    const result = await runVm({
      kernel: values.kernel as KernelName,
      command,
      disks: values.disk,
      shares: values.share,
      modules: values.module,
      ...(values.memory === undefined ? {} : { memory: values.memory }),
      cpus: Number(values.cpus),
      timeoutMs: Number(values.timeout) * 1000,
      env: Object.fromEntries(
        values.env.map((pair) => [pair.split('=', 1)[0]!, pair.slice(pair.indexOf('=') + 1)]),
      ),
      kernelArgs: values.append,
      onStdout: (text) => process.stdout.write(text),
      onStderr: (text) => process.stderr.write(text),
    });
    if (values.verbose) console.error(result.console);
    return result.status;
  } catch (error) {
    if (!(error instanceof VmError)) throw error;
    console.error(`vm: ${error.message}`);
    return STATUS[error.code] ?? 72;
  }
}

process.exitCode = await main(process.argv.slice(2)).catch((error: Error) => {
  console.error(`vm: ${error.message}\n${USAGE}`);
  return 72;
});
