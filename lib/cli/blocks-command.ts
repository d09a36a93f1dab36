/**
 * `snapbak blocks IMAGE`: the blocks that the file systems on an image use, as
 * the text that `--blocks FILE` takes.
 */
import type { Command } from 'commander';
import { type UsedBlocks, usedBlocks } from '../blocks/used/used-blocks.js';
import type { UsedPart } from '../blocks/used/verdict.js';
import { formatSize } from '../extent.js';
import type { Cli } from './cli.js';

export function registerBlocks(program: Command, cli: Cli): void {
  program
    .command('blocks')
    .description('list the blocks that the file systems on an image or an unused device use')
    .argument('<image>', 'an image file or a block device that nobody writes to')
    .option('--json', 'one JSON object')
    .addHelpText(
      'after',
      `
ext2, ext3, ext4, xfs, btrfs and swap without their free space, on a partition, a logical volume or
a whole disk; everything else in full. The lines that begin with # tell what was found.

Example:
  snapbak blocks disk.img > used.txt`,
    )
    .action(async (image: string, { json = false }: { json?: boolean }) => {
      const found = await usedBlocks(image);
      if (json) cli.output.event({ event: 'blocks', image, ...summary(found) });
      else {
        for (const part of found.parts) cli.output.line(`# ${partLine(part)}`);
        cli.output.raw(found.list.toText());
      }
    });
}

function summary({ list, parts }: UsedBlocks) {
  const extents = Array.from(list, ({ offset, length }) => [offset, length]);
  return { bytes: list.bytes, runs: list.runs, parts, extents };
}

/** A part, for people. */
export function partLine({ offset, length, what, bytes, full, reason, note }: UsedPart): string {
  const more = full ? `, all: ${reason}` : note === undefined ? '' : `; ${note}`;
  return `${offset} ${what} of ${formatSize(length)}: ${formatSize(bytes)} listed${more}`;
}
