/**
 * The command line program: its commands, and how their ends become messages
 * and an exit status.
 */
import { Command, CommanderError } from 'commander';
import { TOOL_VERSION } from '../manifest.js';
import { registerAttach } from './attach-command.js';
import { registerBackup } from './backup-command.js';
import { registerBlocks } from './blocks-command.js';
import type { Cli } from './cli.js';
import { registerDoctor } from './doctor-command.js';
import { EXIT, EXIT_HELP, exitStatusOf } from './exit-status.js';
import { registerHint } from './hint-command.js';
import { registerInspect } from './inspect-command.js';
import { registerModule } from './module-command.js';
import { registerMountBackup } from './mount-backup-command.js';
import { Output } from './output.js';
import { registerRestore } from './restore-command.js';
import { registerServe } from './serve-command.js';
import { registerStatus } from './status-command.js';
import { registerVerify } from './verify-command.js';

/** All commands; errors are thrown, never an exit. */
export function createProgram(cli: Cli, json = false): Command {
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
  registerServe(program);
  registerAttach(program, cli);
  registerBackup(program, cli);
  registerRestore(program, cli);
  registerMountBackup(program, cli);
  registerVerify(program, cli);
  registerInspect(program, cli);
  registerBlocks(program, cli);
  registerStatus(program, cli);
  registerHint(program, cli);
  registerModule(program, cli);
  registerDoctor(program, cli);
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
    await createProgram(cli, json).parseAsync(args, { from: 'user' });
    return status;
  } catch (error) {
    const told = error instanceof CommanderError; // commander wrote its message itself
    if (!told || (json && error.exitCode !== 0)) output.error(error, json);
    return exitStatusOf(error);
  }
}
