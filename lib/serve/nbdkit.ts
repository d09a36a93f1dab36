/**
 * Where nbdkit and our plugins for it are, and the arguments that make them
 * serve an image. They are separate programs: each may be missing.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SnapbakError } from '../errors.js';
import { findProgram } from '../find-program.js';

const PLUGIN = 'nbdkit-snapbak-plugin.so';
const EXPORT_PLUGIN = 'nbdkit-snapbak-export-plugin.so';
// lib/serve/ in the sources and dist/serve/ in the package both lie two below the root
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The plugin of the user driver: the one built here, or a prebuilt one from the package.
 *
 * @throws SnapbakError `ERR_SNAPBAK_MISSING` if neither is there.
 */
export function findPlugin(root = ROOT): string {
  return findBuilt(PLUGIN, root);
}

/** The same of the plugin that shows a device of this process. */
export function findExportPlugin(root = ROOT): string {
  return findBuilt(EXPORT_PLUGIN, root);
}

function findBuilt(name: string, root: string): string {
  const places = [
    // what was built here first, as with the addon: a working tree may hold older prebuilds
    join(root, 'build-plugin', name),
    join(root, 'prebuilds', `linux-${process.arch}`, name),
  ];
  const found = places.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new SnapbakError(
    'ERR_SNAPBAK_MISSING',
    `the nbdkit plugin is not built: run \`npm run build:plugin\` in ${root} ` +
      '(Debian: apt-get install nbdkit-plugin-dev cmake g++)',
    { path: places[0] },
  );
}

/**
 * The nbdkit program, looked for in PATH and in the folders that a user's PATH may lack.
 *
 * @throws SnapbakError `ERR_SNAPBAK_MISSING` if it is not installed.
 */
export function findNbdkit(path = process.env.PATH ?? ''): string {
  const found = findProgram('nbdkit', path);
  if (found !== undefined) return found;
  throw new SnapbakError(
    'ERR_SNAPBAK_MISSING',
    'nbdkit is not installed (Debian and Ubuntu: apt-get install nbdkit; Fedora: dnf install nbdkit)',
  );
}

export interface NbdkitArguments {
  plugin: string;
  image: string;
  socket: string;
  control: string;
  readOnly: boolean;
}

/** nbdkit's command line; all paths absolute. */
export function nbdkitArguments({ plugin, image, socket, control, readOnly }: NbdkitArguments): string[] {
  const args = ['-f', '-U', socket];
  if (readOnly) args.push('-r');
  args.push(plugin, `file=${image}`, `control=${control}`, 'outlive-parent=true');
  if (readOnly) args.push('readonly=true');
  return args;
}

/** What a line begins with: nbdkit, and the plugin or filter that speaks. */
const SPEAKER = /^nbdkit: (?:(?:snapbak|snapbakexport|file|cow|offset)(?:\[\d+\])?(?:\.\d+)?: )?(?:\d+: )?/;

/** What nbdkit says when it ends because it was told to; nothing that anybody has to know. */
const NOISE = /^error: aborting sleep because of server shut down$/;

/** A line of nbdkit's standard error without its prefix, or undefined for one that tells nothing. */
export function nbdkitMessage(line: string): string | undefined {
  const text = line.trim().replace(SPEAKER, '');
  if (text === '' || NOISE.test(text)) return undefined;
  return text.replace(/^error: /, '');
}
