/**
 * What every backup in the process tells, to whoever subscribes by
 * `node:diagnostics_channel`: a program's logger needs no handle on a backup.
 * Where nobody subscribes, nothing is made and nothing is said.
 */
import { channel } from 'node:diagnostics_channel';
import { errnoName } from './errors.js';
import type { BackupEvent } from './events.js';
import { formatSize } from './extent.js';

/** Name of the channel of {@link BackupMessage}. */
export const BACKUP_CHANNEL = 'snapbak:backup';
/** Name of the channel of {@link LogRecord}. */
export const LOG_CHANNEL = 'snapbak:log';

/** On `snapbak:backup`: each event of each backup, as `backup.events()` gives it, none folded into another. */
export interface BackupMessage {
  /** The backup's id, as in the manifest. */
  id: string;
  /** The origin, as it was named. */
  origin: string;
  event: BackupEvent;
}

/** On `snapbak:log`: what a log should hold of it. */
export interface LogRecord {
  /** `warn`: writers wait, or data is missing; `error`: there will be no backup. */
  level: 'debug' | 'info' | 'warn' | 'error';
  /** Milliseconds since the epoch. */
  time: number;
  /** One line, for people. */
  message: string;
  /** The backup's id (empty: it is about none), and the origin, as it was named. */
  id: string;
  origin: string;
  /** The kind of event that it tells of; `blocks`: of a block list that was compiled; `order`: of what is copied first. */
  event: BackupEvent['event'] | 'blocks' | 'order';
  /** Of an error: `ERR_SNAPBAK_…`. */
  code?: string;
  /** Negative errno, where there is one. */
  errno?: number;
}

const backups = channel(BACKUP_CHANNEL);
const logs = channel(LOG_CHANNEL);

/** Tells the subscribers, if there are any, of an event. */
export function publish(id: string, origin: string, event: BackupEvent): void {
  if (backups.hasSubscribers) backups.publish({ id, origin, event } satisfies BackupMessage);
  if (!logs.hasSubscribers) return;
  const told = tell(event);
  if (told === undefined) return;
  const { code, errno } = event as { code?: string; errno?: number };
  logs.publish({
    ...told,
    time: Date.now(),
    id,
    origin,
    event: event.event,
    ...(code === undefined ? {} : { code }),
    ...(errno === undefined ? {} : { errno }),
  } satisfies LogRecord);
}

/** Tells the log of a block list, or of an order. */
export function log(
  told: Pick<LogRecord, 'level' | 'message' | 'origin'> & { event?: 'blocks' | 'order' },
): void {
  if (!logs.hasSubscribers) return;
  logs.publish({ event: 'blocks', ...told, time: Date.now(), id: '' } satisfies LogRecord);
}

/** Progress, and a spill that went well, belong in figures. */
function tell(event: BackupEvent): Pick<LogRecord, 'level' | 'message'> | undefined {
  switch (event.event) {
    case 'started': {
      const message = `backup of ${formatSize(event.listedBytes)} started as of ${event.startedAt.toISOString()}`;
      return { level: 'info', message };
    }
    case 'spill': {
      if (!event.lost) return undefined;
      const why = event.errno === undefined ? '' : ` (${errnoName(event.errno)})`;
      return { level: 'warn', message: `the second tier of the container failed${why} and was given up` };
    }
    case 'throttle': {
      const ms = Math.round(event.ms);
      return { level: 'debug', message: `${event.writes} writes were delayed, ${ms} ms in all` };
    }
    case 'hold': {
      if (event.writes === 0) return undefined;
      const message = `${event.writes} writes were held because the container is full, ${event.now} are now`;
      return { level: 'warn', message };
    }
    case 'invalid-block': {
      const message = `the block at ${event.extent.offset} cannot be read (${errnoName(event.errno)}): it is not in the backup`;
      return { level: 'warn', message };
    }
    case 'finished': {
      const level = event.invalidBlocks > 0 ? 'warn' : 'info';
      return { level, message: `backup ${event.state} after ${event.seconds.toFixed(1)} s` };
    }
    case 'disk': {
      const how = event.state === 'copied' ? 'is copied' : `broke: ${event.message}`;
      return { level: event.state === 'copied' ? 'info' : 'error', message: `disk ${event.disk} ${how}` };
    }
    case 'hook':
    case 'clone-lost':
      return { level: 'warn', message: event.message };
    case 'broken':
    case 'error':
      return { level: 'error', message: event.message };
    default:
      return undefined;
  }
}
