// npm test: installs what the tests need when it may, builds, runs every suite,
// and ends with one line: "N passed, N failed, N skipped".
//   node scripts/test.mjs [--long] [--only native|unit|model|scenario|kernel|package|kernel-debug]
// --long, and --only for its suite, add what takes minutes and hardly ever fails alone: see LONG.
// kernel-debug, the kernel tests on the kernel with KASAN and lockdep, runs only when it is asked for;
// with --minutes N, no file of them is begun after that time.
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBuilt, ensureNodeModules } from './lib/build.mjs';
import {
  add,
  failuresOfCtest,
  failuresOfMocha,
  fromMocha,
  line,
  none,
  notEmpty,
  one,
  parseLine,
} from './lib/counts.mjs';
import { ensureDebugKernel } from './lib/debug-kernel.mjs';
import { ensureKernel, KERNELS } from './lib/kernels.mjs';
import { buildModule } from './lib/module.mjs';
import {
  BUILD_PACKAGES,
  DEBUG_KERNEL_PACKAGES,
  ensurePackages,
  KERNEL_PACKAGES,
  liveObstacles,
  MODEL_PACKAGES,
  NATIVE_TEST_PACKAGES,
  SCENARIO_PACKAGES,
} from './lib/packages.mjs';
import { Failure, LOGS, quiet, ROOT, show, showAndKeep } from './lib/run.mjs';
import { bad, bold, good, heading, note, seconds } from './lib/terminal.mjs';

const { values } = parseArgs({
  options: { only: { type: 'string' }, long: { type: 'boolean' }, minutes: { type: 'string' } },
});
const whole = values.long === true || values.only !== undefined;
const deadline = Date.now() + Number(values.minutes ?? Number.POSITIVE_INFINITY) * 60_000;

/** What failed, for the end: an output that is long is often read from there. */
const failures = [];

/** Another script that ends with the line of counts. */
async function script(path, args = []) {
  const { code, output } = await showAndKeep(process.execPath, [join(ROOT, path), ...args]);
  const counts = notEmpty(parseLine(output) ?? none());
  failures.push(...failuresOfCtest(output));
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

async function mocha(name, args, env = {}) {
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
  const code = await show(join(ROOT, 'node_modules/.bin/mocha'), [...reporter, ...args], { env });
  if (!existsSync(report)) {
    bad('mocha did not come to its end');
    return one(false);
  }
  const counts = notEmpty(fromMocha(report));
  failures.push(...failuresOfMocha(report).map((text) => `${name}: ${text}`));
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts;
}

/** On Debian's kernels, and on the debug kernel alone: everything there is several times slower. */
async function kernel() {
  await Promise.all(Object.keys(KERNELS).map((name) => ensureKernel(name, { say: note })));
  // before two files want them at once; what is wrong with the module, a test tells
  await quiet('guest-programs', 'make', ['-C', join(ROOT, 'test/kernel/guest')]);
  await buildModule('debian12').catch(() => {});
  // two machines at once: each of them waits a good part of its time
  return mocha('kernel', ['--parallel', '--jobs', '2', '--timeout', '900000', ...kernelFiles()]);
}

/** One of these, begun last, would leave the other machine idle at the end (build-logs/mocha-kernel.json tells). */
const LONGEST_FIRST = [
  '40-main-job',
  '20-own-container',
  '10-attach',
  '31-model',
  '12-attach-lvm',
  '00-rig',
  '41-postgresql',
  '39-chaos',
  '01-build',
];

/**
 * Left for --long: the tests of the virtual machine itself, and the module built for every kernel; the native tests
 * without a sanitizer, which are the same as those with one.
 */
const LONG = { kernel: ['00-rig', '01-build'], native: ['plain'] };

/** What measures rates or memory: not beside others. */
const ALONE = ['19-hold', '21-overload', '24-yield', '25-soak', '36-hot-first'];

/** Two files at once, which wait for programs and disks for half of their time; then those that want the machine for themselves. */
async function scenario() {
  const files = readdirSync(join(ROOT, 'test/scenario')).filter((file) => file.endsWith('.test.ts'));
  const isAlone = (file) => ALONE.includes(file.slice(0, -'.test.ts'.length));
  const run = (name, options, chosen) => {
    const paths = chosen.sort().map((file) => `test/scenario/${file}`);
    return mocha(name, [...options, '--timeout', '300000', ...paths]);
  };
  const beside = ['--parallel', '--jobs', '2'];
  return add(
    await run(
      'scenario',
      beside,
      files.filter((file) => !isAlone(file)),
    ),
    await run('scenario-alone', [], files.filter(isAlone)),
  );
}

function kernelFiles() {
  const rank = (file) => {
    const at = LONGEST_FIRST.findIndex((name) => file === `${name}.test.ts`);
    return at < 0 ? LONGEST_FIRST.length : at;
  };
  return readdirSync(join(ROOT, 'test/kernel'))
    .filter((file) => file.endsWith('.test.ts'))
    .filter((file) => whole || !LONG.kernel.includes(file.slice(0, -'.test.ts'.length)))
    .sort()
    .sort((one, other) => rank(one) - rank(other))
    .map((file) => `test/kernel/${file}`);
}

async function kernelDebug() {
  const { release, buildSeconds } = await ensureDebugKernel({ say: note });
  note(`${release}, which took ${seconds(buildSeconds * 1000)} to build`);
  const env = { SNAPBAK_TEST_KERNEL: 'debug' };
  // the stories of the command line (1, 2, 4) start Node many times, which takes minutes each there
  const files = readdirSync(join(ROOT, 'test/kernel')).filter((file) => /^3.*\.test\.ts$/.test(file));
  let counts = none();
  for (const file of files.sort()) {
    if (Date.now() > deadline) {
      note(`NOT RUN, the time is over: ${file}; "npm run test:kernel:debug" runs it`);
      counts = add(counts, { ...none(), skipped: 1 });
      continue;
    }
    counts = add(counts, await mocha('kernel-debug', ['--timeout', '3600000', `test/kernel/${file}`], env));
  }
  return counts;
}

const SUITES = {
  native: () => script('scripts/native-tests.mjs', whole ? [] : ['--without', ...LONG.native]),
  unit: () => mocha('unit', ['--parallel', '--jobs', '2', 'test/unit/**/*.test.ts']),
  model: () =>
    mocha('model', ['--parallel', '--jobs', '2', '--timeout', '600000', 'test/model/**/*.test.ts']),
  scenario,
  kernel,
  package: () => script('scripts/package-test.mjs'),
  'kernel-debug': kernelDebug,
};
const UNASKED = Object.keys(SUITES).filter((name) => name !== 'kernel-debug');

/** What a suite needs besides the build. */
const PACKAGES = {
  native: NATIVE_TEST_PACKAGES,
  unit: [],
  model: MODEL_PACKAGES,
  scenario: SCENARIO_PACKAGES,
  kernel: KERNEL_PACKAGES,
  package: [],
  'kernel-debug': [...KERNEL_PACKAGES, ...DEBUG_KERNEL_PACKAGES],
};

/** A suite that could not begin, because something cannot be had, must not hide the others. */
async function suite(name) {
  try {
    return await SUITES[name]();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    bad(error.message);
    return one(false);
  }
}

try {
  const chosen = values.only === undefined ? UNASKED : [values.only];
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
  if (chosen.some((name) => name.startsWith('kernel')) && process.getuid?.() !== 0) {
    note('the kernel tests need root, to share this machine with a virtual one: they will fail here');
  }
  await ensureNodeModules();
  if (chosen.some((name) => name !== 'native')) await ensureBuilt();
  const rows = [];
  let total = none();
  for (const name of chosen) {
    heading(`${name} tests`);
    const begin = Date.now();
    const counts = await suite(name);
    rows.push({ name, counts, took: Date.now() - begin });
    total = add(total, counts);
  }
  heading('summary');
  for (const { name, counts, took } of rows) {
    (counts.failed === 0 ? good : bad)(`${bold(name.padEnd(12))} ${line(counts)} (${seconds(took)})`);
  }
  for (const text of failures) bad(`failed: ${text}`);
  console.log(`\n${line(total)}`);
  process.exitCode = total.failed === 0 ? 0 : 1;
} catch (error) {
  console.error(error instanceof Failure ? `\n${error.message}` : error);
  console.log(`\n${line(one(false))}`);
  process.exitCode = 1;
}
