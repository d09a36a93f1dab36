// The debug kernel: Debian 12's kernel source with every detector that finds
// defects of a driver (test/kernel/vm/debug-kernel.config), built once and kept
// in the cache as the kernel `debug`. Its build tree serves as its headers.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { ScratchApt } from './apt.mjs';
import { inScratch, settle } from './cache.mjs';
import { FOLDER, KERNELS, readKernel, useKernel, versionFolder, writeKernel } from './kernels.mjs';
import { capture, Failure, quiet, ROOT } from './run.mjs';

const CONFIG = join(ROOT, 'test/kernel/vm/debug-kernel.config');
const SOURCE = 'linux-source-6.1';

/** What a built kernel was built from, but for the source, which only an update changes. */
async function recipe() {
  const compiler = await capture('gcc', ['-dumpfullversion']);
  const config = readFileSync(CONFIG, 'utf8').replace(/^# (?!CONFIG_).*\n/gm, '');
  return createHash('sha256').update(config).update(compiler.stdout).digest('hex').slice(0, 12);
}

/** The kernel `debug`, built when it is not there or the configuration changed, or `update` finds a newer source. */
export async function ensureDebugKernel({ update = false, say = () => {} } = {}) {
  const key = await recipe();
  const present = readKernel('debug');
  if (present?.recipe === key && !update) return present;
  await inScratch(FOLDER, 'debug', async (scratch) => {
    const apt = new ScratchApt(join(scratch, 'apt'), KERNELS.debian12.sources[0]);
    await apt.update();
    const source = (await apt.resolve([SOURCE])).find(({ name }) => name === SOURCE);
    const final = versionFolder('debug', `${source.version}-${key}`);
    if (!existsSync(join(final, 'kernel.json'))) {
      say(`debug: building ${SOURCE} ${source.version} (log: build-logs/debug-kernel.log)`);
      const begin = Date.now();
      await apt.unpack([source], join(scratch, 'source'));
      const root = join(scratch, 'root');
      const release = await build(join(scratch, 'source/usr/src', `${SOURCE}.tar.xz`), root);
      const buildSeconds = Math.round((Date.now() - begin) / 1000);
      writeKernel(root, {
        name: 'debug',
        version: source.version,
        toolchain: 'host',
        recipe: key,
        buildSeconds,
        release,
        image: 'bzImage',
        modules: `lib/modules/${release}`,
        headers: 'build',
      });
      settle(root, final);
    }
    useKernel('debug', final);
  });
  return readKernel('debug');
}

/** Builds into `root`: bzImage, lib/modules, and build, the tree that modules are built against. */
async function build(tarball, root) {
  const tree = join(root, 'build');
  mkdirSync(tree, { recursive: true });
  const log = { append: true };
  const jobs = `-j${cpus().length}`;
  await quiet('debug-kernel', 'tar', ['-xf', tarball, '-C', tree, '--strip-components=1']);
  await quiet('debug-kernel', 'make', ['-C', tree, 'tinyconfig'], log);
  writeFileSync(join(tree, '.config'), readFileSync(CONFIG), { flag: 'a' });
  await quiet('debug-kernel', 'make', ['-C', tree, 'olddefconfig'], log);
  checkConfig(join(tree, '.config'));
  await quiet('debug-kernel', 'nice', ['make', '-C', tree, jobs, 'bzImage', 'modules'], log);
  const install = ['-C', tree, jobs, `INSTALL_MOD_PATH=${root}`, 'INSTALL_MOD_STRIP=1', 'modules_install'];
  await quiet('debug-kernel', 'make', install, log);
  const release = (await capture('make', ['-s', '-C', tree, 'kernelrelease'])).stdout.trim();
  renameSync(join(tree, 'arch/x86/boot/bzImage'), join(root, 'bzImage'));
  mkdirSync(join(root, 'boot'));
  cpSync(join(tree, '.config'), join(root, 'boot', `config-${release}`));
  await prune(tree);
  return release;
}

/** Kconfig drops silently what it does not know or what lacks a dependency. */
function checkConfig(file) {
  const made = new Set(readFileSync(file, 'utf8').split('\n'));
  const asked = readFileSync(CONFIG, 'utf8')
    .split('\n')
    .filter((line) => /^(# )?CONFIG_/.test(line));
  // an option whose menu is off is not mentioned at all
  const landed = (line) =>
    made.has(line) ||
    (line.startsWith('# ') && ![...made].some((other) => other.startsWith(`${line.split(' ')[1]}=`)));
  const lost = asked.filter((line) => !landed(line));
  if (lost.length > 0)
    throw new Failure(`the debug kernel's Kconfig does not accept:\n  ${lost.join('\n  ')}`);
}

/** What building a module and reading a stack need of the tree: a tenth of it. */
const KEEP = {
  '.': [
    /^(arch|block|drivers|fs|include|kernel|lib|mm|scripts|tools)$/,
    /^(Makefile|Kbuild|vmlinux)$/,
    /^\./,
    /^(System\.map|Module\.symvers)$/,
  ],
  arch: [/^x86$/, /^Kconfig$/],
  drivers: [/^md$/],
  tools: [/^(objtool|build|include|scripts)$/],
  'arch/x86': [/^(?!boot$)/],
};

async function prune(tree) {
  for (const [folder, patterns] of Object.entries(KEEP)) {
    for (const name of readdirSync(join(tree, folder))) {
      if (patterns.some((pattern) => pattern.test(name))) continue;
      rmSync(join(tree, folder, name), { recursive: true, force: true });
    }
  }
  const built = ['(', '-name', '*.o', '-o', '-name', '*.a', '-o', '-name', '.*.cmd', ')'];
  const tools = ['(', '-path', `${tree}/scripts`, '-o', '-path', `${tree}/tools`, ')', '-prune'];
  const remove = [tree, ...tools, '-o', ...built, '-exec', 'rm', '{}', '+'];
  await quiet('debug-kernel', 'find', remove, { append: true });
}
