/**
 * `snapbak inspect DIR`: what a backup is, and what it holds, at a glance.
 * Reads the manifest and the checksums, never the image.
 */
import type { Command } from 'commander';
import { BackupFolder } from '../backup-folder.js';
import { binding } from '../binding.js';
import { formatSize } from '../extent.js';
import { type Manifest, readAnyManifest } from '../manifest.js';
import { diskOf } from '../manifest-disks.js';
import { stillness } from './backup-view.js';
import { BlockMap, LEGEND, markZeroes } from './block-map.js';
import type { Cli } from './cli.js';
import { formatSeconds } from './values.js';

interface Flags {
  disk?: string;
  json?: boolean;
}

export function registerInspect(program: Command, cli: Cli): void {
  program
    .command('inspect')
    .description('show what a backup is, and a map of what it holds')
    .argument('<directory>', 'directory of the backup')
    .option('--disk <name>', 'which disk, if the backup is of several; default: all')
    .option('--json', 'one JSON object')
    .addHelpText('after', '\nExample:\n  snapbak inspect /backup/monday')
    .action(async (directory: string, { disk, json = false }: Flags) => {
      const found = await readAnyManifest(directory);
      if (disk !== undefined || !('disks' in found)) {
        const look = await lookAt(directory, diskOf(found, directory, disk));
        if (json) cli.output.event({ event: 'inspect', ...look.json });
        else for (const line of look.lines) cli.output.line(line);
        return;
      }
      const looks = [];
      for (const { name } of found.disks) {
        looks.push({ name, ...(await lookAt(directory, diskOf(found, directory, name))) });
      }
      if (json) {
        const disks = looks.map(({ name, json }) => ({ name, ...json }));
        cli.output.event({ event: 'inspect', ...found, disks });
        return;
      }
      cli.output.line(`${found.disks.length} disks of one instant: ${stateOf(found)}`);
      for (const { name, lines } of looks)
        for (const line of ['', `disk:      ${name}`, ...lines]) cli.output.line(line);
    });
}

/** What there is to be said of one disk, for people and for programs. */
async function lookAt(directory: string, manifest: Manifest) {
  const map = new BlockMap(manifest);
  const looked = await lookForZeroes(directory, manifest, map);
  return {
    lines: inspectLines(directory, manifest, map, looked),
    json: { ...summary(manifest), ...zeroes(map, looked), map: map.rows() },
  };
}

/** The picture is better with the zeroes in it, but an inspection does not fail for want of them. */
async function lookForZeroes(directory: string, manifest: Manifest, map: BlockMap): Promise<boolean> {
  try {
    await using folder = await BackupFolder.open(directory);
    await using file = await folder.openFile(manifest.checksums.name);
    return await markZeroes(map, manifest, file, binding().crc32c);
  } catch {
    return false;
  }
}

function zeroes(map: BlockMap, looked: boolean): { zeroBytes?: number } {
  return looked ? { zeroBytes: map.zeroBytes } : {};
}

function summary(manifest: Manifest) {
  const { blocks, invalidBlocks, ...rest } = manifest;
  return {
    ...rest,
    runs: blocks.length,
    listedBytes: bytesOf(blocks),
    invalidBytes: bytesOf(invalidBlocks),
    invalidBlocks,
  };
}

function bytesOf(extents: Manifest['blocks']): number {
  return extents.reduce((sum, [, length]) => sum + length, 0);
}

/** The state, and why it is no good one. */
function stateOf({ state, error }: Pick<Manifest, 'state' | 'error'>): string {
  return error === undefined ? state : `${state} (${error.code}: ${error.message})`;
}

/** The same for people. */
export function inspectLines(
  directory: string,
  manifest: Manifest,
  map: BlockMap,
  looked: boolean,
): string[] {
  const { origin, image, statistics } = manifest;
  const taken = (Date.parse(manifest.finishedAt) - Date.parse(manifest.startedAt)) / 1000;
  const zero = looked ? `, ${formatSize(map.zeroBytes)} of it zeroes` : '';
  const lines = [
    `backup:    ${directory}`,
    `state:     ${stateOf(manifest)}`,
    `id:        ${manifest.id}`,
    `instant:   ${manifest.startedAt}; finished ${formatSeconds(Math.max(0, taken))} later`,
    `origin:    ${origin.id} (${origin.driver} driver), ${formatSize(manifest.size)} (${manifest.size} bytes)`,
    `image:     ${image.kind === 'file' ? image.name : image.kind === 'device' ? image.path : 'kept by a program of its own'}`,
    `listed:    ${formatSize(bytesOf(manifest.blocks))} in ${manifest.blocks.length} runs, blocks of ${formatSize(manifest.blockSize)}${zero}`,
  ];
  if (manifest.invalidBlocks.length > 0) {
    lines.push(
      `invalid:   ${formatSize(bytesOf(manifest.invalidBlocks))} in ${manifest.invalidBlocks.length} runs`,
    );
  }
  const captured = statistics.capturedBlocks;
  if (captured !== undefined) {
    lines.push(`writers:   ${captured} blocks captured, ${statistics.writesHeld ?? 0} writes held`);
  }
  const { armMs, freezeMs } = statistics;
  if (armMs !== undefined) lines.push(`start:     ${stillness(armMs, freezeMs ?? 0)}`);
  lines.push(`made by:   ${manifest.tool.name} ${manifest.tool.version}`, '');
  for (const row of map.rows()) lines.push(`  ${row}`);
  lines.push(`  ${LEGEND}`);
  if (!looked) lines.push('  (the checksums were not looked at: zeroes are shown as data)');
  return lines;
}
