// npm run fuzz: every fuzzer for longer than npm test does it, and the counts in one line.
//   node scripts/fuzz.mjs [--seconds N] (each; 60 without it)
// What a fuzzer finds: an input file beside it in build-native-fuzz, or the seed of a manifest that fails.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { add, line, none, notEmpty, one, parseLine } from './lib/counts.mjs';
import { Failure, fail, ROOT, show, showAndKeep } from './lib/run.mjs';
import { heading } from './lib/terminal.mjs';

/** The fuzzers of the driver. */
async function native(seconds) {
  const args = [join(ROOT, 'scripts/native-tests.mjs'), '--only', 'fuzz', '--fuzz-seconds', String(seconds)];
  const { code, output } = await showAndKeep(process.execPath, args);
  const counts = notEmpty(parseLine(output) ?? none());
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

/** Manifests, with the addon that is built here. */
async function manifests(seconds) {
  heading(`manifests, ${seconds} s`);
  await ensureNodeModules();
  await ensureBuilt();
  const env = { SNAPBAK_FUZZ_SECONDS: String(seconds) };
  return one(
    (await show(join(ROOT, 'node_modules/.bin/mocha'), ['test/unit/fuzz/*.test.ts'], { env })) === 0,
  );
}

try {
  const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } });
  const seconds = Number(values.seconds);
  if (!Number.isInteger(seconds) || seconds < 1) {
    throw new Failure(`--seconds ${values.seconds}: it is a whole number of seconds`);
  }
  const total = add(await manifests(seconds), await native(seconds));
  console.log(`\n${line(total)}`);
  process.exitCode = total.failed === 0 ? 0 : 1;
} catch (error) {
  fail(error);
}
