/**
 * `snapbak mount-backup DIR SOCKET`: a finished backup as an NBD export, until
 * it is told to stop.
 */
import type { Command } from 'commander';
import { SnapbakError } from '../errors.js';
import { formatSize } from '../extent.js';
import { endedUnasked, serveBackup } from '../restore/serve-backup.js';
import type { Cli } from './cli.js';
import { interruptible } from './interrupt.js';

interface Flags {
  disk?: string;
  overlay?: boolean;
  imageDevice?: string;
  json?: boolean;
}

const HELP = `
Any NBD program can read it: nbdfuse makes a file of it that can be mounted,
qemu boots from it, nbdcopy takes parts of it. The backup does not change. Blocks
are not compared with their checksums: "snapbak verify" does that.

Example:
  snapbak mount-backup /backup/monday /run/monday.sock --overlay
  qemu-system-x86_64 -m 1G -drive file=nbd+unix:///?socket=/run/monday.sock,format=raw`;

export function registerMountBackup(program: Command, cli: Cli): void {
  program
    .command('mount-backup')
    .description('show a finished backup over NBD, read-only or with a throw-away overlay')
    .argument('<directory>', 'directory of the backup')
    .argument('<socket>', 'Unix socket for NBD clients')
    .option('--disk <name>', 'which disk, if the backup is of several')
    .option('--overlay', 'let clients write; what they write is thrown away at the end')
    .option('--image-device <path>', 'the block device with the image, if it was made with --target-device')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', HELP)
    .action((backup: string, socket: string, flags: Flags) =>
      interruptible((signal) => run(backup, socket, flags, cli, signal)),
    );
}

async function run(backup: string, socket: string, flags: Flags, cli: Cli, signal: AbortSignal) {
  const { disk, overlay = false, imageDevice, json = false } = flags;
  const { output } = cli;
  try {
    const onMessage = (line: string) => output.warn(line);
    const server = await serveBackup({ backup, disk, socket, overlay, imageDevice, onMessage, signal });
    const { uri, size, invalidBlocks, pid } = server;
    if (json) output.event({ event: 'started', backup, socket, uri, size, overlay, invalidBlocks, pid });
    else output.line(`serving ${backup} (${formatSize(size)}, ${overlay ? 'overlay' : 'read-only'}): ${uri}`);
    if (invalidBlocks > 0 && !json) {
      output.warn(`snapbak: ${invalidBlocks} blocks are not in the backup, and read as zeroes`);
    }
    const exit = await server.exited;
    if (!exit.asked) throw endedUnasked(exit, backup);
  } catch (error) {
    // asked to stop before it ran: that is no failure
    if (!(SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_ABORTED')) throw error;
  }
  if (json) output.event({ event: 'finished' });
}
