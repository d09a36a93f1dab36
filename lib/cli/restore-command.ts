/**
 * `snapbak restore DIR TO`: brings a backup back to a file or a device.
 */
import type { Command } from 'commander';
import { formatSize } from '../extent.js';
import { restore } from '../restore/restore.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-status.js';
import { interruptible } from './interrupt.js';
import { replayView } from './replay-view.js';
import { restoreWithExport } from './restore-export.js';
import { formatSeconds } from './values.js';

interface Flags {
  disk?: string;
  export?: string;
  state?: string;
  resume?: boolean;
  verify: boolean;
  force?: boolean;
  imageDevice?: string;
  json?: boolean;
}

const HELP = `
Every block is compared with its checksum before it is written. A device keeps
what the block list does not name.

With --export it can be used at once, over NBD: what clients ask for comes first,
and what they write is kept. It runs until it is told to stop. Interrupted, it goes
on when the same command is given again: which blocks are there is kept in a state
file, beside a restored file, or for a device in /var/lib/snapbak/restore.

Examples:
  snapbak restore /backup/monday /var/tmp/restored.img
  snapbak restore /backup/monday /dev/vg0/new --export /run/new.sock`;

export function registerRestore(program: Command, cli: Cli): void {
  program
    .command('restore')
    .description('bring a backup back to a file or a block device')
    .argument('<directory>', 'directory of the backup')
    .argument('<to>', 'a new file, or a block device at least as large as the origin')
    .option('--disk <name>', 'which disk, if the backup is of several')
    .option('--no-verify', 'do not compare the blocks with their checksums')
    .option('--force', 'overwrite a file that exists, or a device with a file system, LVM or RAID')
    .option('--image-device <path>', 'the block device with the image, if it was made with --target-device')
    .option('--export <socket>', 'show it over NBD at this Unix socket while it is restored, and after')
    .option('--state <file>', 'with --export: where it is kept which blocks are there')
    .option('--resume', 'with --export: go on with an interrupted restore, never begin one')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', HELP)
    .action((backup: string, to: string, flags: Flags) =>
      interruptible(async (signal) => {
        const { disk, verify, force = false, imageDevice, json = false, state, resume } = flags;
        if (flags.export !== undefined) {
          const what = {
            backup,
            disk,
            to,
            socket: flags.export,
            state,
            resume,
            force,
            verify,
            imageDevice,
            signal,
          };
          return await restoreWithExport(what, json, cli);
        }
        if (state !== undefined || resume !== undefined) {
          throw new RangeError('--state and --resume are for a restore with --export');
        }
        const view = replayView(cli.output, json);
        const onProgress = view.progress.bind(view);
        const options = { backup, disk, imageDevice, to, verify, force, signal, onProgress };
        const result = await restore(options).finally(() => view.end());
        const { bytes, seconds, invalidBlocks } = result;
        if (json) cli.output.event({ event: 'finished', to, ...result });
        else cli.output.line(`restored ${formatSize(bytes)} to ${to} in ${formatSeconds(seconds)}`);
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
