/**
 * Targets: where a backup goes. A target is prepared before the session opens,
 * takes blocks from native threads while it runs, and is committed (or failed)
 * at its end. Only a commit makes a manifest that says complete.
 */
import type { NativeOriginInfo, NativeTarget } from '../binding.js';
import type { DiskManifest, GroupDraft, GroupManifest, Manifest, ManifestDraft } from '../manifest.js';

/** What a target has to know about the backup that is about to begin. */
export interface TargetContext {
  /** Bytes of the origin. */
  size: number;
  /** Bytes of a block. */
  blockSize: number;
  /** What OPEN answered; the target must not depend on this origin. */
  origin: NativeOriginInfo;
}

/** A target that is open and empty. */
export interface PreparedTarget {
  /** Where the addon writes blocks. */
  readonly native: NativeTarget;
  /** Open for reading and writing; 4 bytes a block, all zero. */
  readonly checksumsFd: number;
  /** Where the manifest says that the image is. */
  readonly image: Manifest['image'];
  /**
   * Makes the backup durable, and last of all its manifest. Called once, after
   * the addon's `finish()`.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET; call `fail()` then
   */
  commit(manifest: ManifestDraft): Promise<Manifest>;
  /**
   * Leaves a manifest that says `broken`, as well as it can; never throws.
   * Does nothing after a commit that succeeded.
   */
  fail(manifest: ManifestDraft): Promise<void>;
  /**
   * Closes what is open. Without `commit()` or `fail()` before (the session
   * never began), what `prepare()` made is removed again. Idempotent.
   */
  close(): Promise<void>;
}

/** One disk of a target for several, open and empty. */
export interface PreparedDisk extends Pick<PreparedTarget, 'native' | 'checksumsFd' | 'image'> {
  /**
   * Makes the disk durable; the manifest is yet to come.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET
   */
  commit(manifest: ManifestDraft): Promise<DiskManifest>;
  /** What the manifest is to say of a disk that broke; never throws. */
  fail(manifest: ManifestDraft): Promise<DiskManifest>;
  /** Closes its files. Idempotent. */
  close(): Promise<void>;
}

/** A target for several disks that is open and empty. */
export interface PreparedGroup {
  /** In the order that they were asked for. */
  readonly disks: readonly PreparedDisk[];
  /**
   * Writes the manifest, durably: called once, when every disk was committed or failed.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET
   */
  seal(draft: GroupDraft, disks: DiskManifest[]): Promise<GroupManifest>;
  /** Closes what is open, after the disks. Of a session that never began nothing is left. Idempotent. */
  close(): Promise<void>;
}

/** A place for one backup. */
export interface BackupTarget {
  /** For people, e.g. `directory /backup/monday`. */
  readonly description: string;
  /**
   * Checks that the target may be used, and opens it.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET_REFUSED with the reason, or
   *   ERR_SNAPBAK_TARGET if it cannot be made; nothing is left behind
   */
  prepare(context: TargetContext): Promise<PreparedTarget>;
  /**
   * The same for several origins; absent: it takes one only.
   *
   * @param disks plain names, which are unique, and what is known of each
   * @throws as `prepare()` does
   */
  prepareGroup?(disks: readonly { name: string; context: TargetContext }[]): Promise<PreparedGroup>;
}
