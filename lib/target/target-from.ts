/**
 * What `startBackup` takes as a target.
 */
import { show } from '../extent.js';
import { type CustomTarget, customTarget, isCustomTarget } from './custom-target.js';
import type { BackupTarget } from './target.js';

/**
 * A target of this library as it is, or one made of an object with `write`,
 * `flush` and `close`.
 *
 * @throws TypeError for anything else
 */
export function targetFrom(value: BackupTarget | CustomTarget): BackupTarget {
  const target = value as Partial<BackupTarget> | null | undefined;
  if (typeof target?.prepare === 'function' && typeof target.description === 'string')
    return target as BackupTarget;
  if (isCustomTarget(value)) return customTarget(value);
  throw new TypeError(
    'target must be made by directoryTarget() or deviceTarget(), or have the methods write, flush and close, ' +
      `got ${show(value)}`,
  );
}
