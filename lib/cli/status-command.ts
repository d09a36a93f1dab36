/**
 * `snapbak status ORIGIN`: state and counters of an origin's session, whoever
 * owns it.
 */
import type { Command } from 'commander';
import { errnoName } from '../errors.js';
import { formatSize } from '../extent.js';
import { type OriginStatus, openOrigin } from '../origin.js';
import type { Cli } from './cli.js';

export function registerStatus(program: Command, cli: Cli): void {
  program
    .command('status')
    .description("show the state and the counters of an origin's session")
    .argument('<origin>', 'unix:CONTROL_SOCKET, of "snapbak serve --control"')
    .option('--json', 'one JSON object')
    .addHelpText('after', '\nExample:\n  snapbak status unix:/run/vm1.control')
    .action(async (spec: string, { json = false }: { json?: boolean }) => {
      await using origin = await openOrigin(spec);
      const status = await origin.status();
      if (json) cli.output.event({ event: 'status', origin: spec, session: hasSession(status), ...status });
      else for (const line of statusLines(spec, status)) cli.output.line(line);
    });
}

function hasSession({ state, slots }: OriginStatus): boolean {
  return state !== 'new' || slots > 0;
}

/** The same for people. */
export function statusLines(spec: string, status: OriginStatus): string[] {
  const lines = [`${spec}: ${status.id}, ${formatSize(status.size)}`];
  if (!hasSession(status)) return [...lines, 'no session'];
  const why = status.reason === 'none' ? '' : ` (${status.reason}${cause(status.errno)})`;
  lines.push(`session:  ${status.state}${why}`);
  if (status.startTime > 0) {
    const arm = Number((status.armNs / 1e6).toFixed(3));
    lines.push(`started:  ${new Date(status.startTime).toISOString()}, writes stood still for ${arm} ms`);
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
