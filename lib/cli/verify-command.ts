/**
 * `snapbak verify DIR`: proves that a backup is what it was when it finished.
 */
import type { Command } from 'commander';
import { formatSize } from '../extent.js';
import { verify } from '../restore/verify.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-status.js';
import { interruptible } from './interrupt.js';
import { replayView } from './replay-view.js';
import { formatSeconds } from './values.js';

interface Flags {
  disk?: string;
  imageDevice?: string;
  json?: boolean;
}

export function registerVerify(program: Command, cli: Cli): void {
  program
    .command('verify')
    .description('read all of a backup and compare every block with its checksum')
    .argument('<directory>', 'directory of the backup')
    .option('--disk <name>', 'which disk, if the backup is of several; default: all')
    .option('--image-device <path>', 'the block device with the image, if it was made with --target-device')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', '\nExample:\n  snapbak verify /backup/monday')
    .action((backup: string, { disk, imageDevice, json = false }: Flags) =>
      interruptible(async (signal) => {
        const view = replayView(cli.output, json);
        const onProgress = view.progress.bind(view);
        const result = await verify({ backup, disk, imageDevice, signal, onProgress }).finally(() =>
          view.end(),
        );
        const { bytes, seconds, invalidBlocks } = result;
        if (json) cli.output.event({ event: 'finished', ...result });
        else {
          for (const disk of result.disks ?? []) {
            cli.output.line(
              `good: ${disk.name}, ${formatSize(disk.bytes)} in ${formatSeconds(disk.seconds)}`,
            );
          }
          cli.output.line(`good: ${formatSize(bytes)} checked in ${formatSeconds(seconds)}`);
        }
        if (invalidBlocks === 0) return;
        if (!json) {
          cli.output.warn(
            `snapbak: ${invalidBlocks} blocks are not in the backup (they could not be read from the origin)`,
          );
        }
        cli.exit(EXIT.invalidBlocks);
      }),
    );
}
