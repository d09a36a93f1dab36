/**
 * `snapbak hint ORIGIN OFFSET LENGTH`: tells the backup that runs, in whatever
 * process, to copy these bytes next.
 */
import type { Command } from 'commander';
import { formatSize } from '../extent.js';
import { openOrigin } from '../origin.js';
import type { Cli } from './cli.js';
import { ORIGIN, sizeValue } from './values.js';

const HELP = `
It is advice: the newest hint goes first, and a quarter of the sweep goes on with
the block list. What is copied already, or not listed, costs nothing. Blocks that a
held write waits for go before every hint.

Example:
  snapbak hint unix:/run/vm1.control 10G 64M`;

export function registerHint(program: Command, cli: Cli): void {
  program
    .command('hint')
    .description('have the backup that runs copy a part of the origin next')
    .argument('<origin>', ORIGIN)
    .argument('<offset>', 'where it begins, e.g. 10G', sizeValue)
    .argument('<length>', 'how long it is, e.g. 64K', sizeValue)
    .option('--json', 'one JSON object')
    .addHelpText('after', HELP)
    .action(async (spec: string, offset: number, length: number, { json = false }: { json?: boolean }) => {
      await using origin = await openOrigin(spec);
      await origin.hint([{ offset, length }]);
      if (json) cli.output.event({ event: 'hint', origin: spec, offset, length });
      else cli.output.line(`${formatSize(length)} at ${formatSize(offset)} of ${spec} go next`);
    });
}
