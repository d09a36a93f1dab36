// Brings node_modules, the addon, the nbdkit plugin and dist/ up to date, and
// does nothing when they are.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { BUILD_PACKAGES, ensurePackages } from './packages.mjs';
import { quiet, ROOT } from './run.mjs';
import { dim } from './terminal.mjs';

const at = (...parts) => join(ROOT, ...parts);
const bin = (name) => at('node_modules', '.bin', name);

/** The latest change among files and folders, ms since the epoch; 0 with none there. */
function newest(paths) {
  let latest = 0;
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const stat = statSync(path);
    latest = Math.max(
      latest,
      stat.isDirectory() ? newest(readdirSync(path).map((name) => join(path, name))) : stat.mtimeMs,
    );
  }
  return latest;
}

/** The earliest of what was built; 0 when one is not there. */
function oldest(paths) {
  return Math.min(...paths.map((path) => (existsSync(path) ? statSync(path).mtimeMs : 0)));
}

/**
 * Environment for node-gyp: the headers beside this Node where there are any,
 * so that a build downloads nothing.
 */
export function nodeGypEnvironment() {
  const prefix = dirname(dirname(process.execPath));
  const environment = { JOBS: String(cpus().length) };
  if (existsSync(join(prefix, 'include/node/node_api.h'))) environment.npm_config_nodedir = prefix;
  return environment;
}

/** `npm ci` when node_modules is missing or older than the lock file. */
export async function ensureNodeModules() {
  const installed = newest([at('node_modules', '.package-lock.json')]);
  if (installed >= newest([at('package-lock.json')]) && installed > 0) return;
  console.log(dim('Installing node_modules (npm ci)'));
  // no scripts: the package's own install script looks for an addon that is not built yet
  await quiet('npm-ci', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
}

const CORE = [
  at('kernel-module/core'),
  at('kernel-module/include'),
  at('native/driver'),
  at('native/export'),
];

function addonIsCurrent() {
  const folder = at('build/Release');
  if (!existsSync(folder)) return false;
  const addons = readdirSync(folder).filter((name) => name.endsWith('.node'));
  const sources = [...CORE, at('native/copy'), at('native/binding'), at('binding.gyp')];
  return addons.length > 0 && oldest(addons.map((name) => join(folder, name))) >= newest(sources);
}

/** The addon, built by node-gyp when it is missing or older than its sources. */
export async function ensureAddon({ force = false } = {}) {
  if (!force && addonIsCurrent()) return;
  console.log(dim('Building the addon (node-gyp)'));
  await quiet('addon', bin('node-gyp'), ['rebuild', '--release'], { env: nodeGypEnvironment() });
}

/** The nbdkit plugin; cmake sees for itself what is out of date. */
export async function ensurePlugin() {
  console.log(dim('Building the nbdkit plugin (cmake)'));
  await quiet('plugin', process.execPath, [at('scripts/build-plugin.mjs')], { env: nodeGypEnvironment() });
}

/** dist/, compiled by tsc when it is missing or older than lib/. */
export async function ensureDist() {
  const sources = [at('lib'), at('tsconfig.json'), at('tsconfig.build.json'), at('package.json')];
  if (oldest([at('dist/index.js'), at('dist/cli/main.js')]) >= newest(sources)) return;
  console.log(dim('Compiling lib/ (tsc)'));
  await quiet('dist', 'npm', ['run', 'build:ts']);
}

/** Everything that runs from this folder. */
export async function ensureBuilt() {
  await ensurePackages(BUILD_PACKAGES, 'to build the addon and the plugin');
  await ensureNodeModules();
  await ensureAddon();
  await ensurePlugin();
  await ensureDist();
}
