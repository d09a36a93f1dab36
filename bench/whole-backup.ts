/**
 * One whole backup without writers, beside the tools that copy a disk image: all read the same file on tmpfs
 * and write a new one there, unpinned, with every CPU of the machine. Ours computes checksums too.
 */
import { join } from 'node:path';
import type { Benchmark, BenchmarkResult, Context } from './lib/context.js';
import { atLeast } from './lib/context.js';
import { timed } from './lib/processes.js';
import { startNbdkitFile, startSnapbak } from './lib/servers.js';
import { Session } from './lib/session.js';
import { median, ratio, spread } from './lib/statistics.js';
import { figure, table } from './lib/table.js';

const LIBRARY = 'snapbak library, start to finished';
const CLI = 'snapbak backup, whole command';
/** Of the default container; without writers no slot is used. */

/** Each copies the image to `copy.img` in the workspace, which is not there yet. */
function peers(context: Context): Record<string, () => Promise<number>> {
  const from = context.image;
  const to = context.workspace.path('copy.img');
  const sparse = () => context.workspace.sparseFile('copy.img', context.imageSize);
  return {
    'dd bs=4M': () => timed(['dd', `if=${from}`, `of=${to}`, 'bs=4M', 'status=none']),
    'qemu-img convert': () => timed(['qemu-img', 'convert', '-f', 'raw', '-O', 'raw', from, to]),
    'qemu-img convert -n -W -m 16': () => {
      sparse();
      return timed(['qemu-img', 'convert', '-n', '-W', '-m', '16', '-f', 'raw', '-O', 'raw', from, to]);
    },
    'nbdcopy file to file': () => {
      sparse();
      return timed(['nbdcopy', from, to]);
    },
    'nbdcopy nbdkit to file': async () => {
      sparse();
      const server = await startNbdkitFile(context, { pinned: false });
      try {
        return await timed(['nbdcopy', `nbd+unix:///?socket=${server.socket}`, to]);
      } finally {
        await server.stop();
      }
    },
  };
}

/** Seconds of the library from the call of `startBackup` to `finished`. */
async function library(context: Context, control: string): Promise<number> {
  const target = join(context.workspace.freshDirectory('backup'), 'whole');
  const { blockSize } = context;
  const session = await Session.start({ control, target, blockSize, sweep: 'now' });
  const { seconds } = await session.finished();
  await session.stop();
  return seconds;
}

/** Seconds of the whole command, the start of Node.js included. */
function command(context: Context, cli: string, control: string): Promise<number> {
  const target = join(context.workspace.freshDirectory('backup'), 'whole');
  return timed([process.execPath, cli, 'backup', `unix:${control}`, target, '--json']);
}

async function run(context: Context): Promise<BenchmarkResult> {
  const seconds = new Map<string, number[]>();
  const add = (contender: string, value: number) => {
    seconds.set(contender, [...(seconds.get(contender) ?? []), value]);
    context.workspace.remove('copy.img', 'backup');
  };
  for (let round = 1; round <= context.rounds; round += 1) {
    context.log(`round ${round} of ${context.rounds}`);
    for (const [contender, copy] of Object.entries(peers(context))) add(contender, await copy());
    if (context.plugin === undefined) continue;
    const server = await startSnapbak(context, { pinned: false });
    add(LIBRARY, await library(context, server.control));
    if (context.cli !== undefined) add(CLI, await command(context, context.cli, server.control));
    await server.stop();
  }
  const others = Object.keys(peers(context));
  const of = (contender: string) => seconds.get(contender) ?? [];
  const best = others.reduce((one, other) => (median(of(other)) < median(of(one)) ? other : one));
  const rows = [...seconds].map(([contender, values]) => [
    contender,
    median(values).toFixed(3),
    figure(context.imageSize / 2 ** 20 / median(values)),
    `${Math.round(spread(values))} %`,
    `x${ratio(of(best), values).toFixed(2)}`,
  ]);
  return {
    tables: [
      {
        title: `Whole backup of ${context.imageSize / 2 ** 20} MiB, no writers`,
        text: table(['contender', 'seconds', 'MiB/s', 'spread', 'speed to best peer'], rows),
      },
    ],
    goals:
      context.plugin === undefined
        ? []
        : [LIBRARY, CLI].map((ours) => atLeast(`${ours}, to ${best}`, ratio(of(best), of(ours)), 1)),
    samples: Object.fromEntries(seconds),
  };
}

export const wholeBackup: Benchmark = {
  name: 'whole-backup',
  title: 'Whole backup without writers',
  run,
};
