/**
 * The command line program: its commands, and how their ends become messages
 * and an exit status.
 */
import { Command, CommanderError } from 'commander';
import { TOOL_VERSION } from '../tool-version.js';
import type { Cli } from './cli.js';
import { EXIT, EXIT_HELP, exitStatusOf } from './exit-status.js';
import { Output } from './output.js';

type Register = (program: Command, cli: Cli) => void;

async function loadAttach(): Promise<Register> {
  return (await import('./attach-command.js')).registerAttach;
}

/** The commands in the order of the help. Each loads a part of the library: only the one that is run is loaded. */
const COMMANDS: Record<string, () => Promise<Register>> = {
  serve: async () => {
    const { registerServe } = await import('./serve-command.js');
    return (program) => registerServe(program);
  },
  attach: loadAttach,
  detach: loadAttach,
  backup: async () => (await import('./backup-command.js')).registerBackup,
  restore: async () => (await import('./restore-command.js')).registerRestore,
  'mount-backup': async () => (await import('./mount-backup-command.js')).registerMountBackup,
  verify: async () => (await import('./verify-command.js')).registerVerify,
  inspect: async () => (await import('./inspect-command.js')).registerInspect,
  blocks: async () => (await import('./blocks-command.js')).registerBlocks,
  status: async () => (await import('./status-command.js')).registerStatus,
  hint: async () => (await import('./hint-command.js')).registerHint,
  module: async () => (await import('./module-command.js')).registerModule,
  doctor: async () => (await import('./doctor-command.js')).registerDoctor,
};

/** The program with the command of that name, or with all of them; errors are thrown, never an exit. */
async function createProgram(cli: Cli, json: boolean, name = ''): Promise<Command> {
  const program = new Command('snapbak')
    .description(
      'Online backup of block devices: the device as it stood at one instant, while it is written to.',
    )
    .version(TOOL_VERSION)
    .exitOverride() // inherited by every command made below
    .showHelpAfterError('(add --help for the options)')
    .configureOutput({
      writeOut: (text) => cli.output.raw(text),
      writeErr: (text) => {
        if (!json) cli.output.rawError(text); // with --json the error event says it
      },
    })
    .addHelpText('afterAll', EXIT_HELP);
  const asked = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]!] : new Set(Object.values(COMMANDS));
  for (const load of asked) (await load())(program, cli);
  return program;
}

/**
 * Runs a command line (without `node` and the script) to its end.
 *
 * @returns the exit status
 */
export async function run(args: string[], output: Output = new Output()): Promise<number> {
  const json = args.includes('--json');
  let status: number = EXIT.good;
  const cli: Cli = {
    output,
    exit: (code) => {
      status = code;
    },
  };
  try {
    const program = await createProgram(cli, json, args[0]);
    await program.parseAsync(args, { from: 'user' });
    return status;
  } catch (error) {
    const told = error instanceof CommanderError; // commander wrote its message itself
    if (!told || (json && error.exitCode !== 0)) output.error(error, json);
    return exitStatusOf(error);
  }
}
