// Puts the addon and the nbdkit plugins, built for this machine, into prebuilds/,
// from where the package takes them (npm pack). Where they do not load after
// an installation, node-gyp-build builds the addon from its sources.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensureAddon, ensurePlugin } from './lib/build.mjs';
import { fail, quiet, ROOT } from './lib/run.mjs';

// node-gyp-build reads the tags: any Node with Node-API, GNU libc
const libc = process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
const folder = join(ROOT, 'prebuilds', `linux-${process.arch}`);
const addon = join(folder, `node.napi.${libc}.node`);
const PLUGINS = ['nbdkit-snapbak-plugin.so', 'nbdkit-snapbak-export-plugin.so'];

try {
  await ensureAddon();
  await ensurePlugin();
  rmSync(join(ROOT, 'prebuilds'), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(ROOT, 'build/Release/snapbak.node'), addon);
  for (const name of PLUGINS) copyFileSync(join(ROOT, 'build-plugin', name), join(folder, name));
  const built = [addon, ...PLUGINS.map((name) => join(folder, name))];
  await quiet('strip', 'strip', ['--strip-unneeded', ...built]);
} catch (error) {
  fail(error);
}
