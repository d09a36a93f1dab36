/**
 * `snapbak attach DEVICE`, `snapbak detach DEVICE`: the kernel driver under a
 * device in use, and away from it.
 */
import type { Command } from 'commander';
import { type Attachment, attachOrigin } from '../attach/attach.js';
import { type Detachment, detachOrigin } from '../attach/detach.js';
import { formatSize } from '../extent.js';
import type { Cli } from './cli.js';

/** What the commands do; tests have ones of their own. */
export interface AttachActions {
  attachOrigin: typeof attachOrigin;
  detachOrigin: typeof detachOrigin;
}

const ATTACH_HELP = `
The device stays mounted; a file system on it is frozen for a moment. It stays
attached until "snapbak detach" or a reboot.

Examples:
  snapbak attach /dev/vg/data                   an LVM volume, LUKS, any device-mapper device
  snapbak attach --create data /dev/sdb1        an unmounted partition; then mount /dev/mapper/data
  snapbak backup /dev/vg/data /backup/monday`;

export function registerAttach(
  program: Command,
  cli: Cli,
  actions: AttachActions = { attachOrigin, detachOrigin },
): void {
  program
    .command('attach')
    .description('put the kernel driver under a device-mapper device in use')
    .argument('<device>', '/dev/mapper/NAME, /dev/VG/LV or /dev/dm-N; with --create any unused block device')
    .option('--create <name>', 'make /dev/mapper/NAME over a block device that is not in use')
    .option('--json', 'one JSON object')
    .addHelpText('after', ATTACH_HELP)
    .action(async (device: string, { create, json = false }: { create?: string; json?: boolean }) => {
      const attachment = await actions.attachOrigin(device, create === undefined ? {} : { create });
      if (json) cli.output.event({ event: 'attached', ...attachment });
      else for (const line of attachedLines(attachment)) cli.output.line(line);
    });
  program
    .command('detach')
    .description('take the kernel driver away from a device again')
    .argument('<device>', 'as for "snapbak attach"; or the name that a device had which is gone')
    .option('--force', 'also while a backup of it runs; that backup breaks')
    .option('--json', 'one JSON object')
    .action(async (device: string, { force = false, json = false }: { force?: boolean; json?: boolean }) => {
      const detachment = await actions.detachOrigin(device, { force });
      if (json) cli.output.event({ event: 'detached', ...detachment });
      else for (const line of detachedLines(detachment)) cli.output.line(line);
    });
}

function attachedLines({ device, lower, size, stoppedMs }: Attachment): string[] {
  if (lower === undefined)
    return [`made ${device}, ${formatSize(size)}: use it in place of the device below`];
  return [
    `attached ${device}, ${formatSize(size)}; writes stood still for ${ms(stoppedMs)} ms at most`,
    `its table is now that of ${lower}`,
  ];
}

function detachedLines({ device, outcome, stoppedMs, lowerInUse }: Detachment): string[] {
  const stopped = `writes stood still for ${ms(stoppedMs)} ms at most`;
  const lines = {
    restored: `detached ${device}; ${stopped}`,
    linear: `detached ${device}; ${stopped}. It goes on as a linear device until it is no longer used`,
    removed: `removed ${device}, which nobody used`,
    cleaned: `${device} was not attached; what an attachment had left behind is gone`,
  };
  return [
    lines[outcome],
    ...(lowerInUse
      ? ['its lower device is still open somewhere; the kernel removes it when it is closed']
      : []),
  ];
}

function ms(value: number): number {
  return Number(value.toFixed(1));
}
