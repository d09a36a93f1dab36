/**
 * `manifest.json`: what a backup is, and whether it is good. It is written
 * last; a directory without one holds no backup. What is read here came from a
 * disk that anybody may have touched: nothing in it is believed unchecked, and
 * no name in it leads out of its directory.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expectOptions, expectType } from './arguments.js';
import { BackupFolder } from './backup-folder.js';
import { SnapbakError } from './errors.js';
import { formatSize } from './extent.js';
import { diskOf } from './manifest-disks.js';
import {
  type DiskManifest,
  FORMAT_VERSION,
  GROUP_FORMAT_VERSION,
  type GroupDraft,
  type GroupManifest,
  MAX_MANIFEST_BYTES,
  type Manifest,
  type ManifestDraft,
  manifestText,
  TOOL_NAME,
} from './manifest-format.js';
import { systemCode, systemError } from './system-error.js';
import { TOOL_VERSION } from './tool-version.js';

export {
  type DiskManifest,
  FORMAT_VERSION,
  type GroupDraft,
  type GroupManifest,
  type Manifest,
  type ManifestDraft,
  TOOL_NAME,
} from './manifest-format.js';

/** The manifest's name in a backup's directory. */
export const MANIFEST_NAME = 'manifest.json';

/** A draft with what the target knows. A statistic that is no number must not spoil a good backup: it is left out. */
export function completeDraft(
  draft: ManifestDraft,
  image: Manifest['image'],
  checksums: Manifest['checksums'],
): Manifest {
  const statistics = Object.fromEntries(
    Object.entries(draft.statistics).filter(([, n]) => Number.isFinite(n)),
  );
  return { formatVersion: FORMAT_VERSION, tool: TOOL, ...draft, statistics, image, checksums };
}

const TOOL = { name: TOOL_NAME, version: TOOL_VERSION } as const;

/** The manifest of several disks: as good as the worst of them. */
export function groupManifest(draft: GroupDraft, disks: DiskManifest[]): GroupManifest {
  const { id, createdAt, startedAt, finishedAt, error } = draft;
  const states = disks.map(({ state }) => state);
  const state =
    states.find((one) => one === 'broken') ??
    (error === undefined ? states.find((one) => one !== 'complete') : 'broken') ??
    'complete';
  return {
    formatVersion: GROUP_FORMAT_VERSION,
    tool: TOOL,
    id,
    state,
    createdAt,
    startedAt,
    finishedAt,
    ...(error === undefined ? {} : { error }),
    disks,
  };
}

/**
 * The manifest of the backup in a directory, checked; of a backup of several
 * origins, that of one disk, in the form of a backup of its own.
 *
 * @param directory path of the backup
 * @param options.disk its name; it must be given for a backup of several origins, and for no other
 * @throws RangeError that names the disks, if none or another is named
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST if it is missing, cut off, not of
 *   this program, made by a newer version, or wrong in a field that the
 *   message names
 * @example
 * const manifest = await readManifest('/backup/monday');
 * console.log(manifest.state, manifest.startedAt, manifest.size);
 */
export async function readManifest(
  directory: string,
  options: { disk?: string | undefined } = {},
): Promise<Manifest> {
  expectOptions('options', options, ['disk']);
  if (options.disk !== undefined) expectType('options.disk', options.disk, 'string');
  return diskOf(await readAnyManifest(directory), directory, options.disk);
}

/**
 * The same, whole, whichever of the two it is: `'disks' in manifest` tells.
 *
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST
 */
export async function readAnyManifest(directory: string): Promise<Manifest | GroupManifest> {
  expectType('directory', directory, 'string');
  await using folder = await openManifestFolder(directory);
  return await readManifestIn(folder);
}

/**
 * Opens the directory of a backup.
 *
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST
 */
export async function openManifestFolder(directory: string): Promise<BackupFolder> {
  return await BackupFolder.open(directory).catch((cause: unknown) => {
    throw missing(directory, cause);
  });
}

/** The manifest in a directory that is open; errors as for {@link readManifest}. */
export async function readManifestIn(folder: BackupFolder): Promise<Manifest | GroupManifest> {
  const path = join(folder.path, MANIFEST_NAME);
  const file = await folder.openFile(MANIFEST_NAME).catch((cause: unknown) => {
    throw missing(folder.path, cause);
  });
  let text: string;
  try {
    const { size } = await file.stat();
    if (size > MAX_MANIFEST_BYTES)
      throw wrong(path, `is larger than ${formatSize(MAX_MANIFEST_BYTES)}, so it cannot be one of ours`);
    text = await file.readFile('utf8');
  } catch (cause) {
    throw systemError('ERR_SNAPBAK_MANIFEST', `cannot read ${path}`, cause, path);
  } finally {
    await file.close();
  }
  return await parseManifest(text, path);
}

/** Loads what manifests are checked with, so that the end of a backup need not wait for it. */
export async function loadChecks(): Promise<void> {
  await import('./manifest-schema.js');
}

function missing(directory: string, cause: unknown): SnapbakError {
  const path = join(directory, MANIFEST_NAME);
  if (systemCode(cause) !== 'ENOENT' && systemCode(cause) !== 'ENOTDIR') {
    return systemError('ERR_SNAPBAK_MANIFEST', `cannot open ${path}`, cause, path);
  }
  const hint = 'it holds no backup, or one that was never finished';
  return new SnapbakError('ERR_SNAPBAK_MANIFEST', `there is no ${MANIFEST_NAME} in ${directory}: ${hint}`, {
    cause,
    path,
  });
}

/** The manifest that `text` is; `path` is for errors. */
export async function parseManifest(text: string, path: string): Promise<Manifest | GroupManifest> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    if (text.trim() === '') throw wrong(path, 'is empty', cause);
    throw wrong(path, `is damaged or was cut off: ${(cause as Error).message}`, cause);
  }
  const { formatVersion, tool } = (json ?? {}) as {
    formatVersion?: unknown;
    tool?: { name?: unknown } | null;
  };
  if (tool?.name !== TOOL_NAME) throw wrong(path, 'was not made by Snapbak');
  if (typeof formatVersion === 'number' && formatVersion > GROUP_FORMAT_VERSION) {
    throw wrong(
      path,
      `was made by a newer Snapbak (format ${formatVersion}, this version reads ${GROUP_FORMAT_VERSION}); upgrade to read it`,
    );
  }
  return checked(json, path);
}

async function checked(value: unknown, path: string): Promise<Manifest | GroupManifest> {
  const { groupSchema, manifestSchema } = await import('./manifest-schema.js');
  const several = (value as Partial<GroupManifest> | null)?.formatVersion === GROUP_FORMAT_VERSION;
  const result = (several ? groupSchema : manifestSchema).safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const field = issue.path.length === 0 ? '' : `: field ${fieldName(issue.path)}`;
  throw wrong(path, `is not well formed${field}: ${issue.message}`, result.error);
}

function fieldName(path: PropertyKey[]): string {
  return path
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i > 0 ? '.' : ''}${String(key)}`))
    .join('');
}

function wrong(path: string, what: string, cause?: unknown): SnapbakError {
  return new SnapbakError('ERR_SNAPBAK_MANIFEST', `${path} ${what}`, { cause, path });
}

/**
 * Writes the manifest so that after a crash there is the whole of it or none:
 * a temporary file, fsync, rename, fsync of the directory. Mode 0600.
 *
 * @param place the way to the directory, if that is another than its name
 * @throws SnapbakError ERR_SNAPBAK_MANIFEST if `manifest` is not well formed, or
 *   has so many extents that it would not be read again;
 *   ERR_SNAPBAK_TARGET if it cannot be written; there is none then
 */
export async function writeManifest(
  directory: string,
  manifest: Manifest | GroupManifest,
  place = directory,
  maxBytes = MAX_MANIFEST_BYTES,
): Promise<void> {
  const path = join(directory, MANIFEST_NAME);
  await checked(manifest, path);
  const text = manifestText(manifest, maxBytes);
  if (text === undefined) {
    throw wrong(
      path,
      `would be larger than ${formatSize(maxBytes)}, because of its many extents, and could not be read again; ` +
        'larger blocks, or all of the origin, make it shorter',
    );
  }
  const final = join(place, MANIFEST_NAME);
  const temporary = join(place, `.${MANIFEST_NAME}.${process.pid}-${randomBytes(6).toString('hex')}`);
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  let placed = temporary;
  try {
    const file = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, final);
    placed = final;
    await syncDirectory(place);
  } catch (cause) {
    // a manifest that may not survive a crash must not be found today either
    await unlink(placed).catch(() => {});
    throw systemError('ERR_SNAPBAK_TARGET', `cannot write ${path}`, cause, path);
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
