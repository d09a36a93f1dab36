/**
 * The target of several disks: to each backup a target of its own, whose
 * manifest is only remembered; the real one is written when all have ended.
 */
import { completeDraft, type DiskManifest, type GroupDraft, type GroupManifest } from '../manifest.js';
import type { PreparedDisk, PreparedGroup, PreparedTarget } from '../target/target.js';

export class GroupTarget {
  /** In the order of the disks. */
  readonly disks: readonly PreparedTarget[];
  readonly #group: PreparedGroup;
  readonly #told: (DiskManifest | undefined)[] = [];

  constructor(group: PreparedGroup) {
    this.#group = group;
    this.disks = group.disks.map((disk, i) =>
      remembered(disk, (told) => {
        this.#told[i] = told;
      }),
    );
  }

  /**
   * Writes the manifest: after the end of every disk, once.
   *
   * @throws SnapbakError ERR_SNAPBAK_TARGET
   */
  async seal(draft: GroupDraft): Promise<GroupManifest> {
    const told = this.disks.map((_, i) => this.#told[i]);
    if (!told.every((disk) => disk !== undefined)) throw new Error('a disk has ended and told nothing');
    return await this.#group.seal(draft, told);
  }

  /** Idempotent. */
  close(): Promise<void> {
    return this.#group.close();
  }
}

function remembered(disk: PreparedDisk, keep: (told: DiskManifest) => void): PreparedTarget {
  return {
    native: disk.native,
    checksumsFd: disk.checksumsFd,
    image: disk.image,
    async commit(draft) {
      const told = await disk.commit(draft);
      keep(told);
      return completeDraft(draft, told.image, told.checksums);
    },
    async fail(draft) {
      keep(await disk.fail(draft));
    },
    close: () => disk.close(),
  };
}
