/**
 * The public surface of `@snapbak/core`: online backup of block devices.
 *
 * @example
 * ```ts
 * import { directoryTarget, openOrigin, restore, startBackup } from '@snapbak/core';
 *
 * await using origin = await openOrigin('unix:/run/vm1.control');
 * const backup = await startBackup({ origin, target: directoryTarget('/backup/monday') });
 * for await (const event of backup.events()) {
 *   if (event.event === 'progress') console.log(event.doneBytes, 'of', event.totalBytes);
 * }
 * await backup.finished;
 * await restore({ backup: '/backup/monday', to: '/var/tmp/restored.img' });
 * ```
 *
 * @packageDocumentation
 *
 * @module @snapbak/core
 */
export { type Attachment, type AttachOptions, attachOrigin } from './attach/attach.js';
export { type Detachment, type DetachOptions, detachOrigin } from './attach/detach.js';
export type { BackupClone, CloneOptions, CloneResult, CloneStats } from './backup/clone-options.js';
export {
  type AfterThaw,
  type Backup,
  type BackupOptions,
  type BackupResult,
  type BackupState,
  type BeforeFreeze,
  type DiskResult,
  type HookContext,
  type OriginPlan,
  type PointInTimeView,
  type SweepOrder,
  startBackup,
  type ThawContext,
  type ViewExport,
} from './backup.js';
export { BlockList } from './blocks/block-list.js';
export { type UsedBlocks, usedBlocks } from './blocks/used/used-blocks.js';
export type { UsedPart } from './blocks/used/verdict.js';
export type {
  Container,
  ContainerContext,
  OpenContainer,
  OpenTier,
  ResizableContainer,
} from './container/container.js';
export { type DeviceContainerOptions, deviceContainer } from './container/device-container.js';
export { type FileContainerOptions, fileContainer } from './container/file-container.js';
export { memoryContainer } from './container/memory-container.js';
export { parseContainer } from './container/parse.js';
export { tieredContainer } from './container/tiered-container.js';
export type { Watermarks } from './container/watermarks.js';
export { BACKUP_CHANNEL, type BackupMessage, LOG_CHANNEL, type LogRecord } from './diagnostics.js';
export { ERROR_CODES, SnapbakError, type SnapbakErrorCode, type SnapbakErrorDetails } from './errors.js';
export type {
  BackupEvent,
  BlocksEvent,
  BrokenEvent,
  CloneLostEvent,
  DiskEvent,
  ErrorEvent,
  FinishedEvent,
  HoldEvent,
  HookEvent,
  InvalidBlockEvent,
  ProgressEvent,
  SpillEvent,
  StartedDisk,
  StartedEvent,
  ThrottleEvent,
} from './events.js';
export { type Extent, formatSize, parseSize } from './extent.js';
export type { LatencyStats } from './histogram.js';
export {
  type DiskManifest,
  type GroupDraft,
  type GroupManifest,
  type Manifest,
  type ManifestDraft,
  readAnyManifest,
  readManifest,
} from './manifest.js';
export {
  type EmbeddedOptions,
  type EmbeddedOrigin,
  type Origin,
  type OriginInfo,
  type OriginStatus,
  openEmbedded,
  openOrigin,
  type WriteOptions,
  type WriteZeroesOptions,
} from './origin.js';
export {
  type OnDemandResult,
  type OnDemandStats,
  type RestoreOnDemand,
  type RestoreOnDemandOptions,
  restoreOnDemand,
} from './restore/on-demand.js';
export type { ReplayProgress, ReplayResult } from './restore/replay.js';
export { type RestoreOptions, restore } from './restore/restore.js';
export { type BackupServer, type ServeBackupOptions, serveBackup } from './restore/serve-backup.js';
export { type VerifyOptions, type VerifyResult, verify } from './restore/verify.js';
export type { ServerExit } from './serve/nbdkit-process.js';
export type { BackupStats, DiskStats } from './stats.js';
export { type CustomTarget, type CustomTargetOptions, customTarget } from './target/custom-target.js';
export { type DeviceTargetOptions, deviceTarget } from './target/device-target.js';
export { directoryTarget } from './target/directory-target.js';
export type {
  BackupTarget,
  PreparedDisk,
  PreparedGroup,
  PreparedTarget,
  TargetContext,
} from './target/target.js';
