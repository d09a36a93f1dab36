/**
 * What a backup of several disks is made of, and what it says: events of one
 * disk as those of the whole, and the one error for what went wrong with some.
 */
import { SnapbakError } from '../errors.js';
import type { BackupEvent, StartedEvent } from '../events.js';
import type { BackupStats } from '../stats.js';
import type { Disk } from './disk.js';
import type { GroupTarget } from './group-target.js';
import type { Instant } from './hooks.js';
import type { RunningBackup } from './running.js';

export interface GroupParts extends Instant {
  id: string;
  createdAt: Date;
  thawed: Promise<SnapbakError | undefined>;
  /** Bytes a second, of all together. */
  rate: number | undefined;
  signal: AbortSignal | undefined;
  disks: readonly Disk[];
  target: GroupTarget;
}

/** A disk, and its own backup. */
export interface Member {
  name: string;
  spec: string;
  backup: RunningBackup;
}

/** The start of all of them. */
export function startedEvent(
  { id, startedAt, armMs, freezeMs, disks }: GroupParts,
  members: readonly Member[],
  stats: BackupStats,
): StartedEvent {
  const each = members.map(({ name, spec, backup }, i) => {
    const { size, blockSize } = disks[i]!.context;
    const { totalBytes, listedBlocks, armMs, freezeMs } = backup.stats();
    const listedBytes = Math.min(totalBytes, size);
    return { name, origin: spec, size, blockSize, listedBlocks, listedBytes, armMs, freezeMs };
  });
  return {
    event: 'started',
    id,
    origin: members.map(({ spec }) => spec).join(', '),
    startedAt,
    armMs,
    freezeMs,
    size: each.reduce((sum, { size }) => sum + size, 0),
    blockSize: each[0]!.blockSize,
    listedBlocks: stats.listedBlocks,
    listedBytes: each.reduce((sum, { listedBytes }) => sum + listedBytes, 0),
    disks: each.map(({ blockSize, ...disk }) => disk),
  };
}

/**
 * The group's event for one of a disk's own; `undefined`: the group tells that
 * itself. The end of a disk is not that of the backup.
 */
export function ofDisk(disk: string, event: BackupEvent): BackupEvent | undefined {
  switch (event.event) {
    case 'blocks':
    case 'spill':
    case 'throttle':
    case 'hold':
    case 'invalid-block':
      return { ...event, disk };
    case 'finished': {
      const { id, invalidBlocks, seconds } = event;
      return { event: 'disk', id, disk, state: 'copied', invalidBlocks, seconds };
    }
    case 'broken':
    case 'error': {
      const { code, message, errno, id = '' } = event;
      return {
        event: 'disk',
        id,
        disk,
        state: 'broken',
        code,
        message,
        ...(errno === undefined ? {} : { errno }),
      };
    }
    default:
      return undefined;
  }
}

/** The first failure's code, and what is said of all. */
export function groupFailure(
  failures: readonly { member: Member; error: Error }[],
  members: readonly Member[],
): SnapbakError {
  const [first] = failures as [{ member: Member; error: Error }];
  const said = failures.map(({ member, error }) => `${member.name}: ${error.message}`).join('; ');
  const broken = new Set(failures.map(({ member }) => member));
  const good = members.filter((member) => !broken.has(member)).map(({ name }) => name);
  const rest = good.length === 0 ? '' : `; good, and to be restored by name: ${good.join(', ')}`;
  const { error } = first;
  const known = SnapbakError.is(error) ? error : undefined;
  return new SnapbakError(
    known?.code ?? 'ERR_SNAPBAK_IO',
    `${failures.length} of ${members.length} disks broke: ${said}${rest}`,
    { cause: error, errno: known?.errno, path: known?.path },
  );
}

/** The disks that are good have no manifest then, so nothing can be restored. */
export function unsealed(error: SnapbakError, also: Error): SnapbakError {
  const { code, cause, errno, path } = error;
  return new SnapbakError(code, `${error.message}; and no manifest says so: ${also.message}`, {
    cause,
    errno,
    path,
  });
}
