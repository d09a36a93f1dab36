/**
 * The shape of `manifest.json`, and what must be true between its fields.
 * Kept apart from reading and writing it: zod takes as long to load as all of
 * Snapbak, and most commands meet no manifest.
 */
import { z } from 'zod';
import {
  type DiskManifest,
  type ExtentPair,
  FORMAT_VERSION,
  GROUP_FORMAT_VERSION,
  type GroupManifest,
  type Manifest,
  TOOL_NAME,
} from './manifest-format.js';

const MIN_BLOCK_SIZE = 4096;
const MAX_BLOCK_SIZE = 2 ** 20;
/** No backup that we make has more. */
const MAX_DISKS = 1000;

const bytes = z.int().nonnegative();

/** A file's name inside the directory: no path, nothing hidden behind a dot. */
const plainName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'must be a plain file name inside the directory')
  .refine((name) => name !== 'manifest.json', 'must not be the manifest itself');

/** The name of a disk is shown, and given on command lines. */
const diskName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'must be a plain name');

// Checked by hand below: a schema of a million tuples would take seconds.
const extents = z.custom<ExtentPair[]>(Array.isArray, 'must be an array of [offset, length]');

const whole = {
  tool: z.object({ name: z.literal(TOOL_NAME), version: z.string() }),
  id: z.uuid(),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  state: z.enum(['complete', 'complete-with-invalid-blocks', 'broken']),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
};

const ofDisk = {
  state: whole.state,
  error: whole.error,
  origin: z.object({ driver: z.enum(['kernel', 'user', 'embedded']), id: z.string(), size: bytes }),
  size: bytes,
  blockSize: z
    .int()
    .min(MIN_BLOCK_SIZE)
    .max(MAX_BLOCK_SIZE)
    .refine((size) => Number.isInteger(Math.log2(size)), 'must be a power of two'),
  image: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('file'), name: plainName }),
    z.object({ kind: z.literal('device'), path: z.string().startsWith('/'), offset: z.literal(0) }),
    z.object({ kind: z.literal('custom') }),
  ]),
  checksums: z.object({
    name: plainName,
    algorithm: z.literal('crc32c'),
    sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits'),
  }),
  blocks: extents,
  invalidBlocks: extents,
  statistics: z.record(z.string(), z.number()),
};

type Fail = (path: (string | number)[], message: string) => void;

/** Checks the shape first, then what must hold between the fields. */
export const manifestSchema: z.ZodType<Manifest> = z
  .object({ formatVersion: z.literal(FORMAT_VERSION), ...whole, ...ofDisk })
  .superRefine((manifest, context) =>
    checkDisk(manifest, (path, message) => context.addIssue({ code: 'custom', path, message })),
  );

/** The same of several disks: no file is two things, and none is better than it is. */
export const groupSchema: z.ZodType<GroupManifest> = z
  .object({
    formatVersion: z.literal(GROUP_FORMAT_VERSION),
    ...whole,
    disks: z
      .array(z.object({ name: diskName, ...ofDisk }))
      .min(1)
      .max(MAX_DISKS),
  })
  .superRefine((manifest, context) => {
    const fail: Fail = (path, message) => context.addIssue({ code: 'custom', path, message });
    const { disks, state } = manifest;
    const names = new Set<string>();
    const files = new Set<string>();
    for (const [i, disk] of disks.entries()) {
      if (names.has(disk.name)) return fail(['disks', i, 'name'], 'must be unique');
      names.add(disk.name);
      if (disk.image.kind !== 'file') return fail(['disks', i, 'image', 'kind'], 'must be file');
      for (const field of ['image', 'checksums'] as const) {
        const { name } = disk[field] as { name: string };
        if (files.has(name))
          return fail(['disks', i, field, 'name'], 'must be the name of no other file of it');
        files.add(name);
      }
      let wrong = false;
      checkDisk(disk, (path, message) => {
        wrong = true;
        fail(['disks', i, ...path], message);
      });
      if (wrong) return;
    }
    const worst = ['broken', 'complete-with-invalid-blocks', 'complete'].find((one) =>
      disks.some((disk) => disk.state === one),
    );
    if (state !== worst && state !== 'broken')
      fail(['state'], `must be ${worst}, as the worst of the disks is`);
  });

function checkDisk(manifest: Omit<DiskManifest, 'name'>, fail: Fail): void {
  const { size, blockSize, state } = manifest;
  if (manifest.origin.size !== size) fail(['origin', 'size'], `must be the same as size, ${size}`);
  if (manifest.image.kind === 'file' && manifest.image.name === manifest.checksums.name) {
    fail(['checksums', 'name'], 'must not be the same as image.name');
  }
  for (const field of ['blocks', 'invalidBlocks'] as const) {
    const problem = extentsProblem(manifest[field], size, blockSize);
    if (problem !== undefined) {
      fail([field, problem.index], problem.message);
      return;
    }
  }
  const stray = outside(manifest.invalidBlocks, manifest.blocks);
  if (stray !== undefined) fail(['invalidBlocks', stray], 'must lie inside blocks');
  const invalid = manifest.invalidBlocks.length > 0;
  if (state === 'complete' && invalid) fail(['invalidBlocks'], 'must be empty if state is complete');
  if (state === 'complete-with-invalid-blocks' && !invalid)
    fail(['invalidBlocks'], `must not be empty if state is ${state}`);
}

function extentsProblem(
  pairs: readonly unknown[],
  size: number,
  blockSize: number,
): { index: number; message: string } | undefined {
  let end = 0;
  for (let index = 0; index < pairs.length; index++) {
    const pair = pairs[index] as Partial<ExtentPair> | null;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every(Number.isSafeInteger)) {
      return { index, message: 'must be [offset, length] in bytes' };
    }
    const [offset, length] = pair as ExtentPair;
    const behind = offset + length;
    const problem =
      offset < 0 || length <= 0
        ? 'must have an offset from 0 and a length above 0'
        : behind > size
          ? `must end inside the device of ${size} bytes`
          : offset < end
            ? 'must begin behind the extent before it'
            : offset % blockSize !== 0 || (behind % blockSize !== 0 && behind !== size)
              ? `must be whole blocks of ${blockSize} bytes`
              : undefined;
    if (problem !== undefined) return { index, message: `[${offset}, ${length}] ${problem}` };
    end = behind;
  }
  return undefined;
}

/** The index of the first of `inner` that `outer` does not cover; both ascending. */
function outside(inner: ExtentPair[], outer: ExtentPair[]): number | undefined {
  let at = 0;
  for (let index = 0; index < inner.length; index++) {
    const [start, length] = inner[index]!;
    for (let from = start; from < start + length; ) {
      while (at < outer.length && outer[at]![0] + outer[at]![1] <= from) at++;
      const next = outer[at];
      if (next === undefined || next[0] > from) return index;
      from = next[0] + next[1];
    }
  }
  return undefined;
}
