// Builds the nbdkit plugins into build-plugin/ with cmake-js. They know nothing
// of Node, so cmake-js is driven by its CMake class, which configures and builds only; the BuildSystem above it would
// first download Node's headers. Works without a network.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUT = join(ROOT, 'build-plugin');
const NAMES = ['nbdkit-snapbak-plugin.so', 'nbdkit-snapbak-export-plugin.so'];

/** Whether a program runs, or a header compiles. */
function works(program, args, input) {
  return (
    spawnSync(program, args, { input, stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', 'ignore'] })
      .status === 0
  );
}

/** What is not there, each with the Debian package that has it. */
function missing() {
  const compiler = process.env.CXX ?? 'c++';
  const needs = [];
  if (!works('cmake', ['--version'])) needs.push(['cmake', 'cmake']);
  if (!works('ninja', ['--version']) && !works('make', ['--version'])) needs.push(['make or ninja', 'make']);
  if (!works(compiler, ['--version'])) {
    needs.push([`a C++ compiler (${compiler})`, 'g++']);
  } else {
    const test = '#define NBDKIT_API_VERSION 2\n#define THREAD_MODEL 0\n#include <nbdkit-plugin.h>\n';
    const compile = ['-x', 'c++', '-fsyntax-only', '-'];
    if (!works(compiler, compile, test)) needs.push(['nbdkit-plugin.h', 'nbdkit-plugin-dev']);
  }
  return needs;
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

const needs = missing();
if (needs.length > 0) {
  fail(
    `the nbdkit plugins cannot be built; missing: ${needs.map(([what]) => what).join(', ')}\n` +
      `Debian and Ubuntu: apt-get install ${needs.map(([, name]) => name).join(' ')}\n` +
      'Without them the embedded driver works; `snapbak serve` and exports do not.',
  );
}

let CMake;
try {
  ({ CMake } = createRequire(import.meta.url)('cmake-js'));
} catch (error) {
  fail(`cmake-js is not installed: run \`npm ci\` in ${ROOT} (${error.message.split('\n')[0]})`);
}

mkdirSync(OUT, { recursive: true });
const cmake = new CMake({
  directory: join(ROOT, 'native'),
  out: join(OUT, 'cmake'),
  config: 'Release',
  // a place for headers that is never looked at
  runtimeDirectory: tmpdir(),
  target: 'snapbak-plugins',
  parallel: cpus().length,
  cMakeOptions: { SNAPBAK_PLUGIN: 'ON', SNAPBAK_TESTS: 'OFF', SNAPBAK_FUZZ: 'OFF' },
});
try {
  try {
    await cmake.configure();
  } catch {
    // a cache of another generator, compiler or place
    rmSync(cmake.workDir, { recursive: true, force: true });
    await cmake.configure();
  }
  await cmake.build();
  for (const name of NAMES) {
    const built = join(cmake.buildDir, name);
    if (!existsSync(built)) throw new Error(`cmake made no ${built}`);
    // by rename: a server that runs keeps the file that it has mapped
    const fresh = join(OUT, `${name}.new`);
    rmSync(fresh, { force: true });
    copyFileSync(built, fresh);
    renameSync(fresh, join(OUT, name));
    console.log(`built ${join(OUT, name)}`);
  }
} catch (error) {
  fail(`the nbdkit plugins could not be built: ${error.message ?? error}`);
}
