/**
 * `snapbak backup ORIGIN DIR`: takes a backup and shows it.
 */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type SweepOrder, startBackup } from '../backup.js';
import type { Watermarks } from '../container/watermarks.js';
import type { LatencyGoal } from '../scheduler/governor.js';
import { deviceTarget } from '../target/device-target.js';
import { directoryTarget } from '../target/directory-target.js';
import { announceClone, cloneOption, endClone } from './backup-clone.js';
import { openOrigins, whatOfOrigins } from './backup-origins.js';
import { backupView } from './backup-view.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-status.js';
import { programHooks } from './hook-program.js';
import { interruptible } from './interrupt.js';
import {
  blockSizeValue,
  delayValue,
  durationValue,
  hookTimeoutValue,
  latencyGoalValue,
  listValue,
  ORIGIN,
  rateValue,
  watermarksValue,
} from './values.js';

interface Flags {
  container?: string[];
  blocks: string;
  blockSize: number;
  order: SweepOrder;
  rate?: number;
  latencyGoal: LatencyGoal;
  watermarks?: Watermarks;
  maxDelay: number;
  holdTimeout: number;
  onFull: 'break' | 'hold';
  stallTimeout: number;
  startTimeout: number;
  hook?: string;
  hookTimeout: number;
  targetDevice?: string;
  export?: string;
  cloneTo?: string;
  cloneExport?: string;
  force?: boolean;
  json?: boolean;
}

const HELP = `
The backup is the origin as of the instant at which "started" is printed, never
before. A backup directory holds data.img, checksums and manifest.json; only the
manifest says that it is complete.

Containers hold captured blocks until the target has them:
  memory:SIZE       slots in memory (default 64M)
  file:PATH:SIZE    a file as a second tier, on another disk than the origin; with
                    the kernel driver also on the origin's own ext2/3/4 or xfs
  device:PATH       a partition or an external device as a second tier
--container may be given several times: for memory, and for second tiers in order
of preference. Blocks go to the first that has room; if one fails, the others go on.

When the memory fills faster than the target takes it, three things happen in
this order: blocks spill to the second tier (above "low"); writes that would need
more of it are slowed down to the speed of the target ("high"); such writes are
held while it is drained to "drain-to" ("full"). Other writes go on as ever.

A hook brings an application to rest for the start instant. It is run as
"PROGRAM before-freeze" when all is prepared, and as "PROGRAM after-thaw" as soon
as the start has ended, well or not. In its environment are SNAPBAK_ORIGIN,
SNAPBAK_ID, SNAPBAK_TARGET and more. If the first fails or takes longer than
--hook-timeout, nothing is started; nothing stays frozen for either.

A first Ctrl-C ends the session cleanly: held writes go on, the backup is marked
broken, the exit status is 3. A second one leaves at once.

Of several origins, DIRECTORY holds an image and checksums of each, called after
the last part of its path, or NAME if it is given as NAME=ORIGIN. One that breaks
does not end the others: the manifest says which are good, the exit status is 3.

Examples:
  snapbak backup /dev/mapper/vg-data /backup/monday
  snapbak backup db=/dev/mapper/vg-data log=/dev/mapper/vg-log /backup/monday
  snapbak backup unix:/run/vm1.control /backup/monday
  snapbak backup unix:/run/vm1.control /backup/monday --export /run/vm1.instant
  snapbak backup unix:/run/vm1.control /backup/monday --rate 200M \\
      --container memory:256M --container file:/var/tmp/tier2:20G`;

export function registerBackup(program: Command, cli: Cli): void {
  program
    .command('backup')
    .description('take a point-in-time backup of an origin that is being written to')
    .usage('[options] <origin> [<origin>...] <directory>')
    .argument('<origin>', `${ORIGIN}; several are backed up as of one instant`)
    .argument('<directory...>', 'new or empty directory for the backup; before it, further origins')
    .option('--container <spec>', 'where captured blocks wait; repeatable (default: memory:64M)', listValue)
    .option(
      '--blocks <list>',
      'used, all, or a file with a line "START LENGTH" an extent (default: used, without free space)',
    )
    .addOption(
      new Option('--block-size <size>', 'unit of tracking, a power of two from 4K to 1M')
        .argParser(blockSizeValue)
        .default(65_536, '64K'),
    )
    .addOption(
      new Option('--order <order>', 'hot-first: what was written most lately is copied first')
        .choices(['ascending', 'hot-first'])
        .default('ascending'),
    )
    .option(
      '--rate <size>',
      'the most that the sweep copies a second, e.g. 100M (default: no limit)',
      rateValue,
    )
    .addOption(
      new Option(
        '--latency-goal <time>',
        'the sweep yields when requests of applications take longer; auto: twice what they take without it; none: never',
      )
        .argParser(latencyGoalValue)
        .default('auto'),
    )
    .option(
      '--watermarks <list>',
      'fill of the memory at which policies begin, e.g. low=0.5,high=0.75,full=1,drain-to=0.75',
      watermarksValue,
    )
    .addOption(
      new Option('--max-delay <time>', 'the longest that a write is slowed down before it is full; 0: never')
        .argParser(delayValue)
        .default(1000, '1s'),
    )
    .addOption(
      new Option('--hold-timeout <time>', 'the longest that a write is held when the container is full')
        .argParser(durationValue)
        .default(30_000, '30s'),
    )
    .addOption(
      new Option('--on-full <policy>', 'when that time is over: break the backup, or keep holding')
        .choices(['break', 'hold'])
        .default('break'),
    )
    .addOption(
      new Option('--stall-timeout <time>', 'writes are held and nothing is drained for so long: break')
        .argParser(durationValue)
        .default(60_000, '60s'),
    )
    .addOption(
      new Option('--start-timeout <time>', 'the longest wait for writes in flight at the start')
        .argParser(durationValue)
        .default(10_000, '10s'),
    )
    .option('--hook <program>', 'run it around the start instant, to bring an application to rest')
    .addOption(
      new Option('--hook-timeout <time>', 'the longest that each run of it may take')
        .argParser(hookTimeoutValue)
        .default(30_000, '30s'),
    )
    .option('--target-device <path>', 'put the image on this block device instead of data.img')
    .option('--export <socket>', 'show the start instant to NBD clients at this socket while the backup runs')
    .option('--clone-to <path>', 'write every block to this new file, or block device, too')
    .option(
      '--clone-export <socket>',
      'let NBD clients use the clone at this socket, from the start instant until this command is stopped',
    )
    .option('--force', 'a device may hold a file system, LVM or RAID: it is overwritten')
    .option('--json', 'one JSON object a line')
    .addHelpText('after', HELP)
    .action((origin: string, more: string[], flags: Flags) =>
      interruptible((signal) => runBackup([origin, ...more.slice(0, -1)], more.at(-1)!, flags, cli, signal)),
    );
}

async function runBackup(
  specs: string[],
  directory: string,
  flags: Flags,
  cli: Cli,
  signal: AbortSignal,
): Promise<void> {
  const { blockSize, rate, latencyGoal, maxDelay, holdTimeout, onFull, stallTimeout, startTimeout } = flags;
  const { force = false, json = false } = flags;
  const what = await whatOfOrigins(specs, flags);
  const target =
    flags.targetDevice === undefined
      ? directoryTarget(directory)
      : deviceTarget(flags.targetDevice, { directory, force });
  const view = backupView(cli.output, json);
  const { hook: program, hookTimeout } = flags;
  const say = (line: string) => view.note(`hook: ${line}`);
  const hooks =
    program === undefined
      ? {}
      : await programHooks({ program, target: resolve(directory), timeout: hookTimeout, say });
  await using opened = await openOrigins(what);
  const backup = await startBackup({
    ...opened.options,
    target,
    ...hooks,
    hookTimeout,
    ...(flags.watermarks === undefined ? {} : { watermarks: flags.watermarks }),
    blockSize,
    order: flags.order,
    rate,
    latencyGoal,
    maxDelay,
    holdTimeout,
    onFull,
    stallTimeout,
    startTimeout,
    ...(flags.export === undefined ? {} : { export: flags.export }),
    ...cloneOption(flags),
    signal,
  });
  if (backup.exportUri !== undefined && !json) cli.output.line(`the start instant is at ${backup.exportUri}`);
  announceClone(backup, json, cli);
  try {
    for await (const event of backup.events()) view.show(event);
  } finally {
    view.end();
    await backup[Symbol.asyncDispose]();
  }
  try {
    const { state } = await backup.finished;
    cli.exit(state === 'complete' ? EXIT.good : EXIT.invalidBlocks);
    await endClone(backup, json, cli, signal);
  } catch (error) {
    if (!json) cli.output.error(error, false); // with --json the last event said it
    cli.exit(backup.state === 'failed' ? EXIT.failed : EXIT.broken);
  }
}
