// Builds kernel-module/ for one of the kernels, in a copy, any warning being an
// error, and keeps the result in the cache by what it was built from.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';
import { CACHE, inScratch, settle } from './cache.mjs';
import { ensureDebugKernel } from './debug-kernel.mjs';
import { ensureKernel } from './kernels.mjs';
import { capture, Failure, ROOT } from './run.mjs';

/** The module's sources. */
export const SOURCES = join(ROOT, 'kernel-module');
const MODULES = join(CACHE, 'modules');
const NAME = 'dm-snapbak.ko';

/** What kbuild says that is no fault of the module's. */
const HARMLESS = [
  /^warning: the compiler differs from the one used to build the kernel$/,
  /^Skipping BTF generation for .* due to unavailability of vmlinux$/,
];

/** A kernel by its name, fetched or built when it is not there. */
export const kernelFor = (name, options) =>
  name === 'debug' ? ensureDebugKernel(options) : ensureKernel(name, options);

/** The files that make up the module, and not what a build by hand left among them. */
function sourceFiles(sources) {
  return readdirSync(sources, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && (/\.[ch]$/.test(entry.name) || entry.name === 'Kbuild'))
    .filter((entry) => !entry.name.endsWith('.mod.c'))
    .map((entry) => relative(sources, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

function hash(kernel, sources, files) {
  const sum = createHash('sha256').update(kernel.folder);
  for (const file of files)
    sum
      .update(file)
      .update('\0')
      .update(readFileSync(join(sources, file)));
  return sum.digest('hex').slice(0, 16);
}

/** The path of dm-snapbak.ko for the kernel `name`. */
export async function buildModule(name, { sources = SOURCES, say = () => {} } = {}) {
  const kernel = await kernelFor(name, { say });
  const files = sourceFiles(sources);
  const final = join(MODULES, `${name}_${hash(kernel, sources, files)}`);
  if (!existsSync(join(final, NAME))) {
    await inScratch(MODULES, name, async (scratch) => {
      const source = copySources(sources, files, scratch);
      const output = await make(kernel, source, ['W=1', 'modules'], ['-Werror']);
      const warnings = complaints(output);
      if (warnings.length > 0)
        throw new Failure(`${name}: the module's build warns:\n${warnings.join('\n')}`);
      const made = join(scratch, 'made');
      mkdirSync(made);
      copyFileSync(join(source, NAME), join(made, NAME));
      writeFileSync(join(made, 'build.log'), output);
      settle(made, final);
    });
  }
  const now = new Date();
  utimesSync(final, now, now);
  keepRecent(name, 8);
  return join(final, NAME);
}

/** What sparse says of our files, line by line. */
export async function checkModule(name, { sources = SOURCES, say = () => {} } = {}) {
  const kernel = await kernelFor(name, { say });
  if (kernel.toolchain === 'own') throw new Failure(`${name}: sparse is not in this kernel's tools`);
  return inScratch(MODULES, name, async (scratch) => {
    const source = copySources(sources, sourceFiles(sources), scratch);
    const output = await make(kernel, source, ['C=2', 'CF=-D__CHECK_ENDIAN__', 'modules']);
    if (!/^ {2}CHECK /m.test(output)) throw new Failure(`${name}: sparse did not run:\n${output}`);
    return complaints(output);
  });
}

function copySources(sources, files, scratch) {
  const copy = join(scratch, 'source');
  for (const file of files) cpSync(join(sources, file), join(copy, file));
  return copy;
}

/** Runs kbuild on `source`; gives all that it said. */
async function make(kernel, source, args, flags = []) {
  const inside = kernel.toolchain === 'own' ? '/mnt' : source;
  // messages of the running kernel name files as the repository does
  const kcflags = [`-fmacro-prefix-map=${inside}/=`, ...flags].join(' ');
  const headers = kernel.toolchain === 'own' ? `/${relative(kernel.folder, kernel.headers)}` : kernel.headers;
  const command = ['make', '-C', headers, `-j${cpus().length}`, `M=${inside}`, `KCFLAGS=${kcflags}`, ...args];
  const [program, ...rest] = kernel.toolchain === 'own' ? inRoot(kernel, source, command) : command;
  const env = { LC_ALL: 'C', PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const { code, stdout, stderr } = await capture(program, rest, { env });
  if (code === 0) return `${stdout}${stderr}`;
  throw new Failure(`the module does not build for ${kernel.release}:\n${stdout}${stderr}`);
}

/** The command with the kernel's folder as its root: the mounts go with its namespace. */
function inRoot(kernel, source, command) {
  if (process.getuid?.() !== 0) throw new Failure(`building for ${kernel.name} needs root, for chroot`);
  const script =
    'mount --bind /dev "$0/dev" && mount -t proc proc "$0/proc" && mount --bind "$1" "$0/mnt" && ' +
    'root=$0 && shift && exec chroot "$root" "$@"';
  return ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, kernel.folder, source, ...command];
}

/** The lines that warn, of the compiler, modpost, objtool, kernel-doc or sparse. */
function complaints(output) {
  return output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /warning|error:/i.test(line))
    .filter((line) => !HARMLESS.some((pattern) => pattern.test(line)));
}

/** Removes all but the last builds for a kernel. */
function keepRecent(name, count) {
  const builds = readdirSync(MODULES)
    .filter((entry) => entry.startsWith(`${name}_`))
    .map((entry) => ({ path: join(MODULES, entry), time: statSync(join(MODULES, entry)).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  for (const { path } of builds.slice(count)) rmSync(path, { recursive: true, force: true });
}
