// The native tests: GoogleTest plain, under ASan + UBSan, and under TSan, then a
// short run of every fuzzer with its corpus. Ends with the counts in one line.
//   node scripts/native-tests.mjs [--only plain|address|thread|fuzz] [--without …] [--fuzz-seconds N]
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { add, fromJunit, line, none, notEmpty, one } from './lib/counts.mjs';
import { BUILD_PACKAGES, ensurePackages, NATIVE_TEST_PACKAGES } from './lib/packages.mjs';
import { capture, Failure, fail, quiet, ROOT, show } from './lib/run.mjs';
import { bad, good, heading, seconds } from './lib/terminal.mjs';

const JOBS = String(cpus().length);
const SANITIZER_OPTIONS = {
  ASAN_OPTIONS: 'detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1',
};

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    without: { type: 'string' },
    'fuzz-seconds': { type: 'string', default: '15' },
  },
});

/**
 * The command without address randomisation, where that is allowed: the shadow
 * memory of Debian 12's TSan does not fit the layout of new kernels.
 */
async function withoutRandomisation(command) {
  const setarch = ['setarch', process.arch === 'arm64' ? 'aarch64' : 'x86_64', '-R'];
  const { code } = await capture(setarch[0], [...setarch.slice(1), 'true']);
  return code === 0 ? [...setarch, ...command] : command;
}

/** Configures and builds one variant; gives its folder. */
async function build(name, settings, { environment = {}, wrap = (command) => command, target = 'all' } = {}) {
  const folder = join(ROOT, `build-native-${name}`);
  const configure = ['-S', join(ROOT, 'native'), '-B', folder, '-G', 'Ninja', '-DSNAPBAK_PLUGIN=OFF'];
  for (const [key, value] of Object.entries(settings)) configure.push(`-D${key}=${value}`);
  await quiet(`native-${name}`, 'cmake', configure, { env: environment });
  // gtest_discover_tests starts each program while it builds: it wants the same care as a run
  const [program, ...args] = await wrap(['cmake', '--build', folder, '-j', JOBS, '--target', target]);
  await quiet(`native-${name}`, program, args, { append: true, env: SANITIZER_OPTIONS });
  return folder;
}

async function tests(name, title, settings, wrap = (command) => command) {
  heading(`native tests, ${title}`);
  const begin = Date.now();
  const folder = await build(name, { SNAPBAK_TESTS: 'ON', ...settings }, { wrap });
  const report = join(folder, 'junit.xml');
  rmSync(report, { force: true });
  // one at a time: the stress tests bring threads of their own
  const ctest = [
    'ctest',
    '--test-dir',
    folder,
    '--output-on-failure',
    '--no-tests=error',
    '--timeout',
    '180',
  ];
  const [program, ...args] = await wrap([...ctest, '--output-junit', report]);
  const status = await show(program, args, { env: SANITIZER_OPTIONS });
  const counts = notEmpty(existsSync(report) ? fromJunit(report) : none());
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  (counts.failed === 0 ? good : bad)(`${title}: ${line(counts)} (${seconds(Date.now() - begin)})`);
  return counts;
}

async function fuzzers() {
  heading(`fuzzers, ${values['fuzz-seconds']} s each`);
  const flags = '-fsanitize=fuzzer-no-link';
  const folder = await build(
    'fuzz',
    { SNAPBAK_FUZZ: 'ON', SNAPBAK_SANITIZE: 'address', CMAKE_C_FLAGS: flags, CMAKE_CXX_FLAGS: flags },
    { environment: { CC: 'clang', CXX: 'clang++' }, target: 'fuzzers' },
  );
  // one thread each: as many at once as there are processors
  const waiting = readdirSync(folder).filter((file) => file.startsWith('fuzz-'));
  let counts = none();
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const ok = await fuzzer(folder, name);
      counts = add(counts, one(ok));
    }
  };
  await Promise.all(cpus().map(worker));
  return notEmpty(counts);
}

/** Runs one of them with its corpus; true when it found nothing. */
async function fuzzer(folder, name) {
  const seeds = join(ROOT, 'test/native/fuzz/corpus', name.slice('fuzz-'.length));
  const corpus = join(folder, 'corpus', name);
  mkdirSync(corpus, { recursive: true });
  // a copy: new inputs are found in the build folder, never among the tracked ones
  if (existsSync(seeds)) cpSync(seeds, corpus, { recursive: true });
  const args = [`-max_total_time=${values['fuzz-seconds']}`, '-timeout=10', '-rss_limit_mb=2048'];
  args.push('-print_final_stats=1', '-verbosity=0', `-artifact_prefix=${folder}/${name}-`, corpus);
  const ok = (await show(join(folder, name), args, { env: SANITIZER_OPTIONS })) === 0;
  (ok ? good : bad)(ok ? name : `${name}: the input that it fails on is in ${folder}`);
  return ok;
}

const SUITES = {
  plain: () => tests('plain', 'plain', {}),
  address: () => tests('address', 'under ASan and UBSan', { SNAPBAK_SANITIZE: 'address' }),
  thread: () => tests('thread', 'under TSan', { SNAPBAK_SANITIZE: 'thread' }, withoutRandomisation),
  fuzz: fuzzers,
};

try {
  for (const name of [values.only, values.without]) {
    if (name !== undefined && !(name in SUITES))
      throw new Failure(`${name}: it is one of ${Object.keys(SUITES).join(', ')}`);
  }
  const chosen = Object.keys(SUITES).filter(
    (name) => name === (values.only ?? name) && name !== values.without,
  );
  await ensurePackages([...BUILD_PACKAGES, ...NATIVE_TEST_PACKAGES], 'for the native tests');
  let total = none();
  for (const name of chosen) {
    try {
      total = add(total, await SUITES[name]());
    } catch (error) {
      // one variant that does not build must not hide the others
      bad(error instanceof Failure ? error.message : String(error?.stack ?? error));
      total = add(total, one(false));
    }
  }
  console.log(`\n${line(total)}`);
  process.exitCode = total.failed === 0 ? 0 : 1;
} catch (error) {
  fail(error);
}
