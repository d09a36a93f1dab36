// Foreign manifests: damaged ones, made from a kept corpus, read by all that reads
// manifests, with the real addon. For longer: npm run fuzz -- --seconds N
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { Output } from '../../../lib/cli/output.js';
import { run } from '../../../lib/cli/program.js';
import { SnapbakError } from '../../../lib/errors.js';
import { type GroupManifest, type Manifest, parseManifest } from '../../../lib/manifest.js';
import { diskOf } from '../../../lib/manifest-disks.js';
import { restore } from '../../../lib/restore/restore.js';
import { verify } from '../../../lib/restore/verify.js';
import { checksumsOf, manifestOf } from '../../helpers/backup-folder.js';
import { Cleanup } from '../../helpers/cleanup.js';
import { stamped } from '../../helpers/images.js';
import { must } from '../../helpers/programs.js';
import { TextSink } from '../../helpers/text-sink.js';
import { damage, mutations } from './mutations.js';

const CORPUS = fileURLToPath(new URL('corpus/manifest/', import.meta.url));
const SECONDS = Number(process.env.SNAPBAK_FUZZ_SECONDS ?? 3);
const SEED = Number(process.env.SNAPBAK_FUZZ_SEED ?? Date.now() % 2 ** 31);
const SIZE = 20 * 4096 + 1000;

describe(`a manifest from anywhere (seed ${SEED})`, function () {
  this.timeout(SECONDS * 1000 + 60_000);
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  const corpus = readdirSync(CORPUS).sort();
  const texts = corpus.map((name) => readFileSync(join(CORPUS, name), 'utf8'));
  const image = stamped(0, SIZE, 1);
  let folder: string;
  let backup: string;
  let counts: Record<'runs' | 'refused' | 'accepted' | 'verified' | 'restored', number>;

  before(async () => {
    folder = cleanup.folder('fuzz');
    backup = join(folder, 'backup');
    mkdirSync(backup);
    writeFileSync(join(folder, 'outside'), 'secret'.repeat(1000));
    writeFileSync(join(backup, 'data.img'), image);
    writeFileSync(join(backup, 'checksums'), checksumsOf(image, manifestOf(SIZE)));
    writeFileSync(join(backup, 'other.img'), image);
    writeFileSync(join(backup, 'other.checksums'), checksumsOf(image, manifestOf(SIZE)));
    symlinkSync('../outside', join(backup, 'link'));
    mkdirSync(join(backup, 'folder'));
    await must('mkfifo', [join(backup, 'pipe')]);
    counts = { runs: 0, refused: 0, accepted: 0, verified: 0, restored: 0 };
  });

  /** The error that is allowed, or undefined; anything else is a finding. */
  async function attempt<T>(work: Promise<T>): Promise<T | SnapbakError> {
    try {
      return await work;
    } catch (error) {
      assert.ok(SnapbakError.is(error), `no error of ours: ${(error as Error)?.stack ?? error}`);
      return error;
    }
  }

  function checkAccepted(manifest: Manifest | GroupManifest): void {
    assert.equal(Object.getPrototypeOf(manifest), Object.prototype);
    if (!('disks' in manifest)) {
      checkDisk(manifest);
      return;
    }
    for (const { name } of manifest.disks) {
      assert.equal(dirname(join('/a/b', name)), '/a/b', `${name} leads out`);
      checkDisk(diskOf(manifest, 'm', name));
    }
  }

  function checkDisk(manifest: Manifest): void {
    const names = [manifest.checksums.name];
    if (manifest.image.kind === 'file') names.push(manifest.image.name);
    for (const name of names) assert.equal(dirname(join('/a/b', name)), '/a/b', `${name} leads out`);
    const ends = [...manifest.blocks, ...manifest.invalidBlocks].map(([offset, length]) => offset + length);
    for (const end of ends) assert.ok(Number.isSafeInteger(end) && end <= manifest.size);
  }

  async function checkText(text: string): Promise<void> {
    counts.runs++;
    const manifest = await attempt(parseManifest(text, 'm'));
    if (SnapbakError.is(manifest)) {
      assert.equal(manifest.code, 'ERR_SNAPBAK_MANIFEST');
      counts.refused++;
    } else {
      checkAccepted(manifest);
      assert.deepEqual(await parseManifest(JSON.stringify(manifest), 'm'), manifest);
      counts.accepted++;
    }
    // what is refused by its text is refused the same way by all that reads it: now and then is enough
    if (SnapbakError.is(manifest) && counts.refused % 20 !== 0) return;
    writeFileSync(join(backup, 'manifest.json'), text);
    const to = join(folder, 'restored.img');
    const verified = await attempt(verify({ backup }));
    // of several, each name leads to what it says, or to an error of ours
    const several = !SnapbakError.is(manifest) && 'disks' in manifest;
    const disk = several ? manifest.disks[counts.runs % manifest.disks.length]!.name : undefined;
    const restored = await attempt(restore({ backup, to, disk }));
    if (!SnapbakError.is(verified)) counts.verified++;
    if (!SnapbakError.is(restored)) {
      counts.restored++;
      const back = readFileSync(to);
      assert.equal(back.length, SIZE);
      for (let at = 0; at < SIZE; at += 4096) {
        const block = back.subarray(at, at + 4096);
        assert.ok(block.equals(image.subarray(at, at + 4096)) || block.every((byte) => byte === 0));
      }
    }
    rmSync(to, { force: true });
    const out = new TextSink();
    const err = new TextSink();
    await run(['inspect', backup], new Output(out, err));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
    assert.doesNotMatch(out.text + err.text, /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]/);
    assert.equal(err.text.includes('    at '), false, 'a stack: a mistake of ours');
    assert.deepEqual(readdirSync(folder).sort(), ['backup', 'outside']);
    assert.equal(({} as Record<string, unknown>).kind, undefined, 'the prototype of all objects was changed');
  }

  it('of the corpus is read as its name says', async () => {
    assert.ok(corpus.length > 0);
    const sha256 = createHash('sha256')
      .update(readFileSync(join(backup, 'checksums')))
      .digest('hex');
    for (const [i, name] of corpus.entries()) {
      await checkText(texts[i]!);
      const manifest = await attempt(parseManifest(texts[i]!, 'm'));
      assert.equal(SnapbakError.is(manifest), name.startsWith('bad-'), name);
      if (SnapbakError.is(manifest)) continue;
      const one = 'disks' in manifest ? diskOf(manifest, 'm', 'b') : manifest;
      assert.equal(one.checksums.sha256, sha256, name);
    }
    assert.ok(counts.restored > 0, 'none of it was a backup');
  });

  it(`is refused or obeyed, and never leads out, crashes or hangs: ${SECONDS} s of it`, async () => {
    const property = fc.asyncProperty(fc.nat(texts.length - 1), mutations, (which, row) =>
      checkText(damage(texts[which]!, row)),
    );
    await fc.assert(property, {
      seed: SEED,
      numRuns: 2 ** 31,
      interruptAfterTimeLimit: SECONDS * 1000,
      markInterruptAsFailure: false,
      timeout: 10_000,
    });
    console.log(`      ${JSON.stringify(counts)}`);
    // so that this is a test: damage was refused, and some of it was harmless and got all the way
    assert.ok(counts.refused > 10 && counts.accepted > 10 && counts.restored > 1, JSON.stringify(counts));
  });
});
