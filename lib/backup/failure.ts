/**
 * What ends a session early, as the error that `finished` rejects with.
 */
import type { NativeNotice, NativeReason } from '../binding.js';
import { errnoName, SnapbakError, type SnapbakErrorCode } from '../errors.js';
import type { BrokenEvent, ErrorEvent, HookEvent } from '../events.js';
import { targetAdvice } from '../native-errors.js';

/** Notices after which a backup cannot be completed. */
export type FatalNotice = Extract<
  NativeNotice,
  { kind: 'target-error' | 'tier2-data' | 'broken' | 'driver-gone' }
>;

export interface FailureContext {
  /** The origin, as the user named it. */
  origin: string;
  /** The target, for people. */
  target: string;
  holdTimeout: number;
  stallTimeout: number;
  /** What a target written in JavaScript threw last. */
  targetCause?: unknown;
  /** The second tiers of the container, for people. */
  tiers?: readonly string[];
}

/** The error for a notice that ends the session. */
export function failureOf(notice: FatalNotice, context: FailureContext): SnapbakError {
  switch (notice.kind) {
    case 'target-error':
      return targetError(notice, context);
    case 'tier2-data':
      return new SnapbakError(
        'ERR_SNAPBAK_CONTAINER_LOST',
        `the backup of ${context.origin} broke: the second tier of the container, ` +
          `${context.tiers?.[notice.tier] ?? `number ${notice.tier + 1}`}, failed (${errnoName(notice.errno)}) with blocks that were nowhere else; the origin is unharmed; ` +
          'check that disk, or use another container',
        { errno: notice.errno },
      );
    case 'driver-gone':
      return new SnapbakError(
        'ERR_SNAPBAK_DRIVER_GONE',
        `the backup of ${context.origin} broke: its driver is gone; what it had flushed is on the origin; ` +
          'the log of the driver says why',
        { path: context.origin },
      );
    case 'broken':
      return brokenError(notice.reason, notice.errno, context);
  }
}

function targetError(
  notice: Extract<NativeNotice, { kind: 'target-error' }>,
  context: FailureContext,
): SnapbakError {
  const name = notice.errno === 0 ? undefined : errnoName(notice.errno);
  const cause = context.targetCause;
  const said = notice.message ?? (cause instanceof Error ? cause.message : undefined);
  const advice = name === undefined ? '' : targetAdvice(name);
  const what = [name, said].filter((part) => part !== undefined && part !== '').join(': ');
  return new SnapbakError(
    'ERR_SNAPBAK_TARGET',
    `the backup of ${context.origin} broke: writing to ${context.target} failed` +
      `${what === '' ? '' : ` (${what})`}; the origin is unharmed${advice === '' ? '' : `; ${advice}`}`,
    { cause, errno: notice.errno },
  );
}

const REASONS: Record<NativeReason, [SnapbakErrorCode, string]> = {
  none: ['ERR_SNAPBAK_BROKEN', 'the driver gave no reason'],
  aborted: ['ERR_SNAPBAK_ABORTED', 'it was aborted'],
  closed: ['ERR_SNAPBAK_BROKEN', 'its control descriptor was closed'],
  'hold-timeout': ['ERR_SNAPBAK_HOLD_TIMEOUT', ''],
  protocol: ['ERR_SNAPBAK_PROTOCOL', 'the driver found rubbish in the shared memory; please report this'],
  'origin-gone': ['ERR_SNAPBAK_BROKEN', 'the origin was closed or removed'],
  stalled: ['ERR_SNAPBAK_STALLED', ''],
};

function brokenError(reason: NativeReason, errno: number, context: FailureContext): SnapbakError {
  const [code, known] = REASONS[reason] ?? ['ERR_SNAPBAK_BROKEN', `the driver says ${reason}`];
  const words =
    reason === 'hold-timeout'
      ? `a write was held longer than ${context.holdTimeout} ms, because the container was full; take a larger ` +
        "container, a faster target, a longer holdTimeout, or onFull: 'hold'"
      : reason === 'stalled'
        ? `nothing was drained for ${context.stallTimeout} ms, while writes were held; see what keeps the target ` +
          'or this process, or take a longer stallTimeout'
        : known;
  const name = errno === 0 ? '' : ` (${errnoName(errno)})`;
  return new SnapbakError(
    code,
    `the backup of ${context.origin} broke: ${words}${name}; the origin is unharmed`,
    {
      path: context.origin,
      errno: errno === 0 ? undefined : errno,
    },
  );
}

/** The error of a backup that the user gave up. */
export function abortedError(reason: unknown): SnapbakError {
  const words =
    reason === undefined
      ? ''
      : `: ${reason instanceof Error || reason instanceof DOMException ? reason.message : String(reason)}`;
  return new SnapbakError('ERR_SNAPBAK_ABORTED', `the backup was aborted${words}`, { cause: reason });
}

/** How a backup that is not finished can end. */
export type EndState = 'broken' | 'failed' | 'aborted';

/** The state for an error that a notice, or the user, brought. */
export function endState(error: SnapbakError): EndState {
  return error.code === 'ERR_SNAPBAK_ABORTED' ? 'aborted' : 'broken';
}

/** The code of whatever ended a backup. */
export function failureCode(error: Error): SnapbakErrorCode {
  return SnapbakError.is(error) ? error.code : 'ERR_SNAPBAK_IO';
}

/** The last event of a backup that is not finished. */
export function endEvent(id: string, state: EndState, error: Error): BrokenEvent | ErrorEvent {
  const errno = SnapbakError.is(error) && error.errno !== undefined ? { errno: error.errno } : {};
  const told = { id, code: failureCode(error), message: error.message, ...errno };
  return state === 'failed' ? { event: 'error', ...told } : { event: 'broken', ...told };
}

/** What is told of an `afterThaw` that failed. */
export function hookEvent({ code, message }: SnapbakError): HookEvent {
  return { event: 'hook', hook: 'after-thaw', code, message };
}

const OF_SESSION: readonly SnapbakErrorCode[] = [
  'ERR_SNAPBAK_DRIVER_GONE',
  'ERR_SNAPBAK_BROKEN',
  'ERR_SNAPBAK_HOLD_TIMEOUT',
  'ERR_SNAPBAK_STALLED',
];

/** The session may still break while it finishes; all else is a failure to keep what was copied. */
export function finishState(error: Error): EndState {
  const code = SnapbakError.is(error) ? error.code : undefined;
  if (code === 'ERR_SNAPBAK_ABORTED') return 'aborted';
  return code !== undefined && OF_SESSION.includes(code) ? 'broken' : 'failed';
}
