/** What a restore on demand is told, and the checks of it. */
import { expectOptions, expectType } from '../arguments.js';
import type { Extent } from '../extent.js';
import { checkedPath, checkedSocket } from '../serve/paths.js';
import type { OnDemandStats } from './lazy-run.js';
import { checkCommon } from './verify.js';

export interface RestoreOnDemandOptions {
  /** Path of the backup's directory. */
  backup: string;
  /** Which disk; it must be named if the backup is of several origins. */
  disk?: string | undefined;
  /** As in `restore`: a new file, or a block device at least as large as the origin was. */
  to: string;
  /** Unix socket for NBD clients, made with mode 0600; at most 107 bytes. */
  socket: string;
  /**
   * Where it is kept which blocks are there. Default: beside a file, with
   * `.restore-state` behind its name; for a device in `/var/lib/snapbak/restore`
   */
  state?: string | undefined;
  /** True: only go on with an interrupted restore. Default: go on if there is one, else begin */
  resume?: boolean | undefined;
  /** As in `restore`; a restore that goes on never overwrites what is there. */
  force?: boolean | undefined;
  /** Compare each block with its checksum. Default: true */
  verify?: boolean | undefined;
  imageDevice?: string | undefined;
  /** Called a few times a second until everything is there. */
  onProgress?: ((stats: OnDemandStats) => void) | undefined;
  /** A block of the backup is damaged: reads of it fail until it is written whole. A thousand are told at most. */
  onBadBlock?: ((extent: Extent) => void) | undefined;
  /** Each line that nbdkit says while it serves. */
  onMessage?: ((line: string) => void) | undefined;
  /** Stops it; it can go on later. */
  signal?: AbortSignal | undefined;
}

/** The options with their defaults, paths absolute; throws a `TypeError` or `RangeError`. */
export function checkedOptions(options: RestoreOnDemandOptions) {
  expectOptions('options', options, [
    'backup',
    'disk',
    'to',
    'socket',
    'state',
    'resume',
    'force',
    'verify',
    'imageDevice',
    'onProgress',
    'onBadBlock',
    'onMessage',
    'signal',
  ]);
  const { backup, disk, imageDevice, signal, resume = false, force = false, verify = true } = options;
  checkCommon({ backup, disk, imageDevice, signal });
  for (const [name, value] of Object.entries({ resume, force, verify })) {
    expectType(`options.${name}`, value, 'boolean');
  }
  for (const name of ['onProgress', 'onBadBlock', 'onMessage'] as const) {
    if (options[name] !== undefined) expectType(`options.${name}`, options[name], 'function');
  }
  const to = checkedPath('options.to', options.to);
  const socket = checkedSocket('options.socket', options.socket);
  const state = options.state === undefined ? undefined : checkedPath('options.state', options.state);
  return { ...options, to, socket, state, resume, force, verify };
}
