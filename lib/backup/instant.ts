/**
 * Fixes the point in time: of one origin, or of several as one. Between the
 * steps of the latter writes stand still, so they are the addon's, not ours.
 */
import type { NativeInstant } from '../binding.js';
import { errnoName } from '../errors.js';
import { fromNative, isNativeError } from '../native-errors.js';
import type { Disk } from './disk.js';
import type { Instant } from './hooks.js';

/**
 * @param disks in the order in which file systems are to be frozen, see `freezeOrder()`
 * @returns the instant of all, and the longest times of any
 */
export async function fixInstant(disks: readonly Disk[], startTimeout: number): Promise<Instant> {
  const answers =
    disks.length === 1
      ? [await disks[0]!.session.start(startTimeout).catch((error: unknown) => fail(disks[0]!, error))]
      : await startTogether(disks, startTimeout);
  // all stand still from the last stop to the first start, which is therefore the instant of each
  const startTime = Math.min(...answers.map((answer) => answer.startTime));
  const instants = disks.map((disk, i) => disk.started(answers[i]!, startTime));
  return {
    startedAt: new Date(startTime),
    armMs: Math.max(...instants.map(({ armMs }) => armMs)),
    freezeMs: Math.max(...instants.map(({ freezeMs }) => freezeMs)),
  };
}

async function startTogether(disks: readonly Disk[], startTimeout: number): Promise<NativeInstant[]> {
  const sessions = disks.map(({ session }) => session);
  const settled = await Promise.allSettled(sessions[0]!.startTogether(sessions, startTimeout));
  const failed = settled.flatMap((one, i) => (one.status === 'rejected' ? [{ i, reason: one.reason }] : []));
  if (failed.length > 0) {
    // those that only stopped because another failed say so by ECANCELED
    const { i, reason } = failed.find(({ reason }) => !isCancelled(reason)) ?? failed[0]!;
    fail(disks[i]!, reason);
  }
  return settled.map((one) => (one as PromiseFulfilledResult<NativeInstant>).value);
}

function isCancelled(error: unknown): boolean {
  return isNativeError(error) && errnoName(error.errno) === 'ECANCELED';
}

function fail({ spec }: Disk, error: unknown): never {
  throw fromNative(error, { path: spec, doing: 'fix the point in time', stage: 'start' });
}
