/**
 * A directory for the backup of several origins: an image and checksums for
 * each, and one manifest, which is written when the last of them has ended.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Host } from '../host.js';
import { completeDraft, type DiskManifest, groupManifest, type ManifestDraft } from '../manifest.js';
import { checksumsSize } from '../manifest-format.js';
import { sha256Of } from '../sha256.js';
import { systemError } from '../system-error.js';
import { BackupDirectory } from './backup-directory.js';
import type { PreparedDisk, PreparedGroup, TargetContext } from './target.js';

/** @throws SnapbakError ERR_SNAPBAK_TARGET_REFUSED, ERR_SNAPBAK_TARGET; nothing is left behind */
export async function prepareDisks(
  place: string,
  disks: readonly { name: string; context: TargetContext }[],
  host?: Host,
): Promise<PreparedGroup> {
  const contexts = disks.map(({ context }) => context);
  const directory = await BackupDirectory.make(place, contexts, host);
  try {
    const prepared: DiskFiles[] = [];
    for (const { name, context } of disks) {
      const image = await directory.createFile(`${name}.img`, context.size);
      const bytes = checksumsSize(context.size, context.blockSize);
      const checksums = await directory.createFile(`${name}.checksums`, bytes);
      prepared.push(new DiskFiles(name, image, checksums, place));
    }
    return {
      disks: prepared,
      seal: (draft, told) => directory.seal(async () => groupManifest(draft, told)),
      close: () => directory.close(),
    };
  } catch (error) {
    await directory.close();
    throw error;
  }
}

/** What the manifest says in place of a digest that could not be made. */
const NO_DIGEST = '0'.repeat(64);

class DiskFiles implements PreparedDisk {
  readonly native: PreparedDisk['native'];
  readonly image: { kind: 'file'; name: string };
  #closing: Promise<void> | undefined;

  constructor(
    private readonly name: string,
    private readonly imageFile: FileHandle,
    private readonly checksums: FileHandle,
    private readonly place: string,
  ) {
    this.native = { fd: imageFile.fd, fresh: true };
    this.image = { kind: 'file', name: `${name}.img` };
  }

  get checksumsFd(): number {
    return this.checksums.fd;
  }

  async commit(draft: ManifestDraft): Promise<DiskManifest> {
    if (draft.state === 'broken') throw new RangeError('a disk that is committed must not be broken');
    try {
      await this.imageFile.datasync();
      await this.checksums.datasync();
      return this.#told(draft, await sha256Of(this.checksums));
    } catch (cause) {
      const { place } = this;
      throw systemError(
        'ERR_SNAPBAK_TARGET',
        `cannot complete ${this.name} of the backup in ${place}`,
        cause,
        place,
      );
    }
  }

  async fail(draft: ManifestDraft): Promise<DiskManifest> {
    const sha256 = await sha256Of(this.checksums).catch(() => NO_DIGEST);
    return this.#told({ ...draft, state: 'broken' }, sha256);
  }

  close(): Promise<void> {
    this.#closing ??= Promise.all([this.imageFile.close(), this.checksums.close()]).then(() => {});
    return this.#closing;
  }

  #told(draft: ManifestDraft, sha256: string): DiskManifest {
    const checksums = { name: `${this.name}.checksums`, algorithm: 'crc32c', sha256 } as const;
    const { formatVersion, tool, id, createdAt, startedAt, finishedAt, ...rest } = completeDraft(
      draft,
      this.image,
      checksums,
    );
    return { name: this.name, ...rest };
  }
}
