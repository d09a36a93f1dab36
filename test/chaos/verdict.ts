/** All that must be true after a session, whatever went wrong in it. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { binding } from '../../lib/binding.js';
import { type Manifest, readManifest, verify } from '../../lib/index.js';
import { loopDevicesIn } from '../helpers/processes.js';
import { until } from '../helpers/programs.js';
import { readJournal } from './journal.js';
import { judgedAreas, judgeImage, judgeOrigin } from './judge.js';
import type { LibraryReport, Places } from './library.js';
import { allowedEnds, type Plan, writeBound } from './plan.js';
import type { WriterReport } from './writer.js';

/** What is known of a session that is over. */
export interface Evidence {
  plan: Plan;
  places: Places;
  before: Buffer;
  after: Buffer;
  /** `killed`: without a report. */
  end: string;
  report: LibraryReport | undefined;
  writers: WriterReport | undefined;
  /** The longest time in which those who measure were not awake, ms. */
  lagMs: number;
  /** Where the library puts temporary files. */
  temporary: string;
}

/** How much longer than its bound a write may take on a machine that is busy with other things. */
const SLACK_MS = 1500;

export function bound({ plan, writers, lagMs }: Evidence): number {
  // at the start, all wait for the writes under way, durable ones too
  return writeBound(plan) + SLACK_MS + 4 * lagMs + 2 * (writers?.longestSyncMs ?? 0);
}

/** What is wrong; nothing, if all is well. */
export async function judge(evidence: Evidence): Promise<string[]> {
  const { plan, places, before, after, end, report, writers } = evidence;
  const wrong: string[] = [];
  const story = readJournal(places.journal);
  const origin = judgeOrigin(before, story, after);
  if (origin !== undefined) wrong.push(origin);
  if (!allowedEnds(plan).has(end)) {
    wrong.push(`ended by ${end}, which this plan does not explain: ${report?.message ?? ''}`);
  }
  wrong.push(...(writers?.wrong ?? []));
  const failing = ['bad-blocks', 'origin-reads', 'origin-writes', 'kill-driver', 'close-origin'];
  if (writers !== undefined && writers.failed > 0 && !failing.includes(plan.disaster)) {
    wrong.push(`${writers.failed} requests of writers failed`);
  }
  if (writers !== undefined && writers.longestMs > bound(evidence)) {
    wrong.push(
      `a write took ${writers.longestMs.toFixed(0)} ms, its bound is ${bound(evidence).toFixed(0)} ms`,
    );
  }
  for (const name of Object.keys(report?.resizes ?? {})) {
    if (name !== 'resized' && name !== 'ERR_SNAPBAK_RESIZE') wrong.push(`a resize ended by ${name}`);
  }

  const manifest = await manifestOf(plan, places.backup);
  const good = manifest !== undefined && manifest.state !== 'broken';
  if (end.startsWith('complete') && manifest?.state !== end) {
    wrong.push(`ended ${end}, but the manifest says ${manifest?.state ?? 'nothing'}`);
  }
  if (!end.startsWith('complete') && end !== 'killed' && good) {
    wrong.push(`ended by ${end}, but the manifest says ${manifest.state}`);
  }
  if (good) wrong.push(...(await judgeBackup(evidence, manifest, story)));
  wrong.push(...leftovers(evidence));
  return wrong;
}

async function judgeBackup(
  { plan, places, before }: Evidence,
  manifest: Manifest,
  story: ReturnType<typeof readJournal>,
): Promise<string[]> {
  const wrong: string[] = [];
  const file = readFileSync(places.targetDevice ?? join(places.backup, 'data.img'));
  const image = file.subarray(0, plan.size);
  const listed = judgedAreas(plan, []);
  const told = manifest.blocks.map(([offset, length]) => [offset, offset + length]);
  if (JSON.stringify(listed) !== JSON.stringify(told))
    wrong.push('the manifest lists other blocks than asked for');
  const areas = judgedAreas(plan, manifest.invalidBlocks);
  const image_ = judgeImage(plan, before, story, image, areas);
  if (image_ !== undefined) wrong.push(`the manifest says ${manifest.state}, but ${image_}`);
  const stray = manifest.invalidBlocks.find(
    ([offset, length]) => !mayBeInvalid(plan, offset, offset + length),
  );
  if (stray !== undefined) wrong.push(`blocks are invalid that could be read: ${stray}`);
  if (plan.target.kind === 'script') {
    if (plan.target.checksums) wrong.push(...compareChecksums(plan, places, image, areas));
  } else {
    await verify({ backup: places.backup, imageDevice: places.targetDevice }).catch((error: Error) => {
      wrong.push(`verify: ${error.message}`);
    });
  }
  return wrong;
}

/** Every block of an extent has a byte that could not be read at some time. */
function mayBeInvalid(plan: Plan, from: number, to: number): boolean {
  if (plan.disaster === 'origin-reads') return true;
  if (plan.disaster !== 'bad-blocks') return false;
  const bad = plan.faults.filter(({ name }) => name === 'bad-blocks');
  for (let at = from; at < to; at += plan.blockSize) {
    const end = Math.min(to, at + plan.blockSize);
    // direct reads, of a device, are of whole sectors
    const touched = bad.some(
      (fault) => at < Math.ceil(fault.to! / 4096) * 4096 && end > Math.floor(fault.from! / 4096) * 4096,
    );
    if (!touched) return false;
  }
  return true;
}

function compareChecksums(
  { blockSize, size }: Plan,
  { backup }: Places,
  image: Uint8Array,
  areas: readonly [number, number][],
): string[] {
  const sums = readFileSync(join(backup, 'checksums'));
  for (const [from, to] of areas) {
    for (let at = from; at < to; at += blockSize) {
      const sum = binding().crc32c(image.subarray(at, Math.min(size, at + blockSize)));
      if (sum !== sums.readUInt32LE((at / blockSize) * 4))
        return [`the checksum of the block at ${at} is wrong`];
    }
  }
  return [];
}

/** Undefined: there is none, or not a whole one. */
async function manifestOf({ target }: Plan, backup: string): Promise<Manifest | undefined> {
  if (target.kind !== 'script') return await readManifest(backup).catch(() => undefined);
  const path = join(backup, 'manifest.json');
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Manifest;
  } catch {
    return undefined;
  }
}

/** Files that should not be there. */
function leftovers({ plan, places, end, report, temporary }: Evidence): string[] {
  const { folder, backup } = places;
  const killed = end === 'killed';
  const own =
    /^(disk\.img|target\.img|tier\.img|journal-\d|before\.img|backup-\d|nbdkit\.(sh|faults)|plan\.json)$/;
  const stray = readdirSync(folder).filter((name) => {
    // between the making of a nameless file and the loss of its name there is a moment to be killed in
    const cutOff = killed && (name.startsWith('tier-') || name.endsWith('.sock'));
    return !own.test(name) && !cutOff && !(plan.driver === 'user' && name.endsWith('.sock'));
  });
  if (existsSync(backup)) {
    for (const name of readdirSync(backup)) {
      const half = killed && name.startsWith('.manifest.json.');
      if (!half && !['data.img', 'checksums', 'manifest.json'].includes(name)) stray.push(`backup/${name}`);
    }
    const { mode } = statSync(backup);
    if (plan.target.kind !== 'script' && (mode & 0o077) !== 0) stray.push('the backup is open to others');
    if (report?.started === false && plan.target.kind !== 'script') stray.push('a backup that never began');
  }
  if (!killed) stray.push(...readdirSync(temporary).filter((name) => !name.startsWith('tsx-')));
  return stray.length === 0 ? [] : [`left behind: ${stray.join(', ')}`];
}

/** After the stage has ended. A loop device goes when the last one who looks at it lets go, be that udev. */
export async function devicesLeft(folder: string): Promise<string[]> {
  const gone = until('loop devices gone', () => loopDevicesIn(folder).length === 0, 5000);
  return await gone.then(
    () => [],
    () => loopDevicesIn(folder).map((device) => `left behind: ${device}`),
  );
}
