// npm run used-images: the proof of used-block lists on many file systems with options by chance, each under a
// writer that never pauses, two images of each (test/scenario/31-used-live.test.ts). Options:
//   --rounds N   file systems of each kind (250: 500 images of ext2/3/4 and 500 of xfs)
//   --seed N     the first of the series (of the time)
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBuilt } from './lib/build.mjs';
import { ensurePackages, SCENARIO_PACKAGES } from './lib/packages.mjs';
import { Failure, fail, ROOT, show } from './lib/run.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '250' },
    seed: { type: 'string', default: `${Math.floor(Date.now() / 1000) % 1_000_000}` },
  },
});

try {
  for (const [name, value] of Object.entries(values)) {
    if (!/^[1-9]\d{0,8}$/.test(value)) throw new Failure(`--${name} ${value}: it is a whole number`);
  }
  await ensurePackages(SCENARIO_PACKAGES, 'for the file systems');
  await ensureBuilt();
  const env = { SNAPBAK_USED_ROUNDS: values.rounds, SNAPBAK_USED_SEED: values.seed };
  const test = ['--timeout', '0', 'test/scenario/31-used-live.test.ts'];
  if ((await show(join(ROOT, 'node_modules/.bin/mocha'), test, { env })) !== 0) {
    throw new Failure(`not as it should be; npm run used-images -- --seed ${values.seed} begins there again`);
  }
} catch (error) {
  fail(error);
}
