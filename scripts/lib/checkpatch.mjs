// checkpatch.pl, the kernel's own check of style, from the newest kernel source
// that Debian has, on kernel-module/. What is let pass is listed here, with why.
import { existsSync, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { ScratchApt } from './apt.mjs';
import { CACHE, inScratch, pointAt, settle } from './cache.mjs';
import { KERNELS } from './kernels.mjs';
import { capture, Failure, ROOT } from './run.mjs';

const FILES = ['checkpatch.pl', 'spelling.txt', 'const_structs.checkpatch'];
const LINK = join(CACHE, 'checkpatch');

/** Findings that stay, by path and type. */
const REASONS = [
  {
    path: /^kernel-module\/compat\//,
    types: ['LINUX_VERSION_CODE', 'CONSTANT_COMPARISON'],
    reason:
      'the one home of version checks; LINUX_VERSION_CODE >= KERNEL_VERSION(...) is how they are written',
  },
  {
    path: /^kernel-module\/(include\/uapi|core)\//,
    types: ['BIT_MACRO'],
    reason: 'user space reads these files too, and has no BIT()',
  },
  {
    path: /^kernel-module\/include\/uapi\//,
    types: ['CAMELCASE'],
    reason: '_Static_assert is what C in user space has instead of static_assert()',
  },
  {
    path: /^kernel-module\/core\/snapbak_atomic\.h$/,
    types: ['MEMORY_BARRIER'],
    reason: 'gives the barriers their names; the reasons for each stand where they are used',
  },
];

/** Where checkpatch.pl is, fetched when it is not there. */
async function ensureCheckpatch(say) {
  const script = join(LINK, FILES[0]);
  if (existsSync(script)) return realpathSync(script);
  await inScratch(CACHE, 'checkpatch', async (scratch) => {
    const apt = new ScratchApt(join(scratch, 'apt'), KERNELS.newest.sources[0]);
    await apt.update();
    const source = (await apt.resolve(['linux-source'])).find(({ name }) => /^linux-source-\d/.test(name));
    if (source === undefined) throw new Failure('Debian unstable has no package linux-source');
    say(`checkpatch: fetching ${source.name} ${source.version}`);
    await apt.unpack([source], join(scratch, 'source'));
    const folder = join(scratch, 'source/usr/src');
    const tarball = readdirSync(folder).find((name) => name.includes('.tar'));
    const made = join(scratch, 'made');
    mkdirSync(made);
    const wanted = FILES.map((file) => `*/scripts/${file}`);
    const args = ['-xf', join(folder, tarball), '-C', made, '--strip-components=2', '--wildcards', ...wanted];
    const { code, stderr } = await capture('tar', args);
    if (code !== 0) throw new Failure(`${tarball} holds no checkpatch.pl: ${stderr.trim()}`);
    const final = `${LINK}_${source.version.replace(/[^A-Za-z0-9.-]/g, '-')}`;
    settle(made, final);
    pointAt(LINK, final);
  });
  return realpathSync(script);
}

/** What checkpatch says of the C files below `sources`, but for what has a reason, a line each. */
export async function checkStyle({ sources = join(ROOT, 'kernel-module'), say = () => {} } = {}) {
  const script = await ensureCheckpatch(say);
  const files = readdirSync(sources, { recursive: true })
    .map((path) => String(path))
    .filter((path) => /\.[ch]$/.test(path) && !path.endsWith('.mod.c'))
    .map((path) => resolve(sources, path));
  const options = ['--no-tree', '--strict', '--terse', '--show-types', '--no-summary', '--color=never'];
  const run = [script, ...options, '-f', ...files];
  // it leaves a file of its own in the folder that it is run in
  const { code, stdout, stderr } = await inScratch(CACHE, 'style', (cwd) => capture('perl', run, { cwd }));
  const lines = stdout.split('\n').filter((line) => /^\S+:\d+: (ERROR|WARNING|CHECK):/.test(line));
  if (code !== 0 && lines.length === 0) throw new Failure(`checkpatch.pl failed: ${stderr}${stdout}`);
  return lines
    .map((line) => line.replace(/^[^:]+/, (path) => join('kernel-module', relative(resolve(sources), path))))
    .filter((line) => !hasReason(line));
}

function hasReason(line) {
  const [, path, type] = /^([^:]+):\d+: [A-Z]+:([A-Z_]+):/.exec(line) ?? [];
  return REASONS.some((entry) => entry.path.test(path) && entry.types.includes(type));
}
