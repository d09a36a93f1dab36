/**
 * `snapbak restore … --export SOCKET`: the restore that is used while it runs,
 * in words or events, until it is told to stop.
 */
import { SnapbakError } from '../errors.js';
import { formatSize } from '../extent.js';
import { type RestoreOnDemandOptions, restoreOnDemand } from '../restore/on-demand.js';
import { endedUnasked } from '../restore/serve-backup.js';
import type { Cli } from './cli.js';
import { EXIT } from './exit-status.js';
import { replayView } from './replay-view.js';
import { formatSeconds } from './values.js';

/** Runs it; a stop before everything is there is the error of an abort, and the restore can go on later. */
export async function restoreWithExport(
  options: RestoreOnDemandOptions,
  json: boolean,
  { output, exit }: Cli,
): Promise<void> {
  const view = replayView(output, json);
  const { to } = options;
  const disk = await restoreOnDemand({
    ...options,
    onProgress: (stats) => view.progress(stats),
    onBadBlock: ({ offset, length }) => {
      if (json) output.event({ event: 'bad-block', offset, length });
      else output.warn(`snapbak: the block at byte ${offset} is damaged in the backup; reads of it fail`);
    },
    onMessage: (line) => output.warn(line),
  });
  const { socket, uri, size, pid, state, resumed, exited } = disk;
  if (json) output.event({ event: 'started', to, socket, uri, size, resumed, state, pid });
  else output.line(`${resumed ? 'going on to restore' : 'restoring'} ${to} (${formatSize(size)}): ${uri}`);
  let failure: unknown;
  try {
    const result = await disk.restored;
    const { doneBytes, seconds, invalidBlocks } = result;
    view.end();
    if (json) output.event({ event: 'restored', to, ...result });
    else
      output.line(
        `restored ${formatSize(doneBytes)} in ${formatSeconds(seconds)}; it is served until stopped`,
      );
    if (invalidBlocks > 0) {
      if (!json) output.warn(`snapbak: ${invalidBlocks} blocks are not in the backup`);
      exit(EXIT.invalidBlocks);
    }
  } catch (error) {
    view.end();
    failure = error;
    // clients may go on with what is there
    const stopped = SnapbakError.is(error) && error.code === 'ERR_SNAPBAK_ABORTED';
    if (!stopped && !json) output.error(error, false);
  }
  const ended = await exited;
  await disk.stop();
  if (!ended.asked) throw endedUnasked(ended, to);
  if (failure !== undefined) throw failure;
  if (json) output.event({ event: 'finished' });
}
