// Libraries that break every rule of the control socket and of the shared memory, at a running nbdkit, while an
// application writes. The same attack runs under sanitizers in test/native, on an engine without nbdkit.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cleanup } from '../helpers/cleanup.js';
import { snapbakExits } from '../helpers/cli.js';
import { expectSame } from '../helpers/images.js';
import { startLoad } from '../helpers/load.js';
import { must } from '../helpers/programs.js';
import { restored, serveImage } from '../helpers/served-image.js';

const MiB = 1 << 20;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = [
  'test/native/hostile-library.cc',
  'test/native/hostile-peer.cc',
  'native/driver/shared_memory.cc',
  'native/driver/wire.cc',
];
const CORE = ['snapbak_bitmap.c', 'snapbak_layout.c'].map((name) => `kernel-module/core/${name}`);

/** The attacker, built in a folder of the test's own. */
async function hostileLibrary(folder: string): Promise<string> {
  const program = join(folder, 'hostile-library');
  const objects: string[] = [];
  for (const source of CORE) {
    const object = join(folder, `${objects.length}.o`);
    await must('cc', ['-std=gnu11', '-O1', '-c', '-o', object, source], { cwd: ROOT });
    objects.push(object);
  }
  const options = ['-std=c++17', '-O1', '-D_GNU_SOURCE', '-D_FILE_OFFSET_BITS=64', '-I.', '-pthread'];
  await must('c++', [...options, '-o', program, ...SOURCES, ...objects], { cwd: ROOT });
  return program;
}

describe('hostile libraries at an nbdkit that serves', () => {
  const cleanup = new Cleanup();
  after(() => cleanup.run());

  it('keep no write, change none, and leave the next backup possible', async () => {
    const program = await hostileLibrary(cleanup.folder('hostile'));
    const served = await serveImage(cleanup, { size: 16 * MiB });
    const before = readFileSync(served.image);
    // it reads back, and compares, all that it wrote
    const load = startLoad(cleanup, served.uri, { size: 8 * MiB, bytes: 32 * MiB, rate: 4 * MiB });
    const seed = process.env.SEED ?? '1';
    const attack = JSON.parse(
      await must(program, [served.controlSocket, seed, '8'], { timeoutMs: 120_000 }),
    ) as Record<string, number>;
    assert.ok(attack.captured! > 0 && attack.finished! > 0, JSON.stringify(attack));
    await load.verified();
    assert.ok(
      readFileSync(served.image)
        .subarray(8 * MiB)
        .equals(before.subarray(8 * MiB)),
      'the driver wrote where nobody had written',
    );
    const backup = join(served.folder, 'backup');
    await snapbakExits(0, 'backup', served.origin, backup);
    await expectSame(await restored(backup), served.image);
  });
});
