/**
 * `snapbak status ORIGIN`: state and counters of an origin's session, whoever
 * owns it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { errnoName } from '../errors.js';
import { formatSize } from '../extent.js';
import { type Origin, type OriginStatus, openOrigin } from '../origin.js';
import { stillness } from './backup-view.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-status.js';
import { interruptible } from './interrupt.js';
import { hasSession, watchStatus } from './status-watch.js';
import { durationValue, ORIGIN } from './values.js';

interface Flags {
  json?: boolean;
  watch?: boolean;
  interval: number;
}

export function registerStatus(program: Command, cli: Cli): void {
  program
    .command('status')
    .description("show the state and the counters of an origin's session")
    .argument('<origin>', ORIGIN)
    .option('--watch', 'show it until the session ends, or Ctrl-C; status 3 if it broke')
    .addOption(
      new Option('--interval <time>', 'look so often, e.g. 500ms; means --watch')
        .argParser(durationValue)
        .default(1000, '1s')
        .implies({ watch: true }),
    )
    .option('--json', 'one JSON object a look')
    .addHelpText(
      'after',
      '\nExample:\n  snapbak status /dev/mapper/vg-data\n  snapbak status unix:/run/vm1.control --watch',
    )
    .action(async (spec: string, { json = false, watch = false, interval }: Flags) => {
      await using origin = await openOrigin(spec);
      if (watch) return await watchOrigin(origin, { spec, json, interval }, cli);
      const status = await origin.status();
      if (json) cli.output.event({ event: 'status', origin: spec, session: hasSession(status), ...status });
      else for (const line of statusLines(spec, status)) cli.output.line(line);
    });
}

/** Ctrl-C ends the watching, which was all there was to do: a good end. */
async function watchOrigin(
  origin: Origin,
  { spec, json, interval }: { spec: string; json: boolean; interval: number },
  cli: Cli,
): Promise<void> {
  const { output } = cli;
  const last = await interruptible((signal) =>
    watchStatus({
      spec,
      json,
      output,
      read: () => origin.status(),
      pause: () =>
        sleep(interval, undefined, { signal }).then(
          () => true,
          () => false,
        ),
      now: () => performance.now(),
    }),
  );
  if (last === 'broken') cli.exit(EXIT.broken);
}

/** The same for people. */
export function statusLines(spec: string, status: OriginStatus): string[] {
  const lines = [`${spec}: ${status.id}, ${formatSize(status.size)}`];
  if (!hasSession(status)) return [...lines, 'no session'];
  const why = status.reason === 'none' ? '' : ` (${status.reason}${cause(status.errno)})`;
  lines.push(`session:  ${status.state}${why}`);
  if (status.startTime > 0) {
    const still = stillness(status.armNs / 1e6, status.freezeNs / 1e6);
    lines.push(`started:  ${new Date(status.startTime).toISOString()}, ${still}`);
  }
  const { counters, blocks, pendingBlocks, blockSize, slots } = status;
  lines.push(
    `pending:  ${pendingBlocks} of ${blocks} blocks of ${formatSize(blockSize)}`,
    `slots:    ${counters.slotsUsed} of ${slots} in use`,
    `captured: ${counters.captured}, ${counters.invalid} could not be read`,
    `delayed:  ${counters.delayed} writes, ${ms(counters.delayedNs)} ms in all`,
    `held:     ${counters.held} writes, ${counters.heldNow} now, the longest ${ms(counters.heldMaxNs)} ms`,
  );
  return lines;
}

function cause(errno: number): string {
  return errno === 0 ? '' : `, ${errnoName(errno)}`;
}

function ms(nanoseconds: number): number {
  return Math.round(nanoseconds / 1e6);
}
