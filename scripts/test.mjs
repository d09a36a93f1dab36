// npm test: installs what the tests need when it may, builds, runs every suite,
// and ends with one line: "N passed, N failed, N skipped".
//   node scripts/test.mjs [--only native|unit|scenario|package]
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import { add, fromMocha, line, none, notEmpty, one, parseLine } from './lib/counts.mjs';
import {
  BUILD_PACKAGES,
  ensurePackages,
  liveObstacles,
  NATIVE_TEST_PACKAGES,
  SCENARIO_PACKAGES,
} from './lib/packages.mjs';
import { Failure, LOGS, ROOT, show, showAndKeep } from './lib/run.mjs';
import { bad, bold, good, heading, note, seconds } from './lib/terminal.mjs';

const { values } = parseArgs({ options: { only: { type: 'string' } } });

/** Another script that ends with the line of counts. */
async function script(path, args = []) {
  const { code, output } = await showAndKeep(process.execPath, [join(ROOT, path), ...args]);
  const counts = notEmpty(parseLine(output) ?? none());
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

async function mocha(name, args) {
  const report = join(LOGS, `mocha-${name}.json`);
  mkdirSync(LOGS, { recursive: true });
  rmSync(report, { force: true });
  const reporter = [
    '--reporter',
    join(ROOT, 'scripts/lib/mocha-reporter.mjs'),
    '--reporter-option',
    `output=${report}`,
  ];
  // in CI, mocha would colour its output for a log file too
  if (!process.stdout.isTTY) reporter.push('--no-color');
  const code = await show(join(ROOT, 'node_modules/.bin/mocha'), [...reporter, ...args]);
  if (!existsSync(report)) {
    bad('mocha did not come to its end');
    return one(false);
  }
  const counts = notEmpty(fromMocha(report));
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

const SUITES = {
  native: () => script('scripts/native-tests.mjs'),
  unit: () => mocha('unit', ['test/unit/**/*.test.ts']),
  scenario: () => mocha('scenario', ['--timeout', '300000', 'test/scenario/**/*.test.ts']),
  package: () => script('scripts/package-test.mjs'),
};

/** What a suite needs besides the build. */
const PACKAGES = { native: NATIVE_TEST_PACKAGES, unit: [], scenario: SCENARIO_PACKAGES, package: [] };

try {
  const chosen = values.only === undefined ? Object.keys(SUITES) : [values.only];
  for (const name of chosen) {
    if (!(name in SUITES))
      throw new Failure(`--only ${name}: it is one of ${Object.keys(SUITES).join(', ')}`);
  }
  heading('set-up');
  // all at once, and before anything is built: who lacks something learns it in the first second
  await ensurePackages([...BUILD_PACKAGES, ...chosen.flatMap((name) => PACKAGES[name])], 'for the tests');
  if (chosen.includes('scenario')) {
    for (const obstacle of await liveObstacles()) {
      note(`${obstacle}: the scenarios with mounted file systems will fail here`);
    }
  }
  await ensureNodeModules();
  if (chosen.some((name) => name !== 'native')) await ensureBuilt();
  const rows = [];
  let total = none();
  for (const name of chosen) {
    heading(`${name} tests`);
    const begin = Date.now();
    const counts = await SUITES[name]();
    rows.push({ name, counts, took: Date.now() - begin });
    total = add(total, counts);
  }
  heading('summary');
  for (const { name, counts, took } of rows) {
    (counts.failed === 0 ? good : bad)(`${bold(name.padEnd(8))} ${line(counts)} (${seconds(took)})`);
  }
  console.log(`\n${line(total)}`);
  process.exitCode = total.failed === 0 ? 0 : 1;
} catch (error) {
  console.error(error instanceof Failure ? `\n${error.message}` : error);
  console.log(`\n${line(one(false))}`);
  process.exitCode = 1;
}
