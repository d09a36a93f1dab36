// The kernels that the module is built for and tested on: Debian's own images
// and headers, fetched from Debian and unpacked below the cache, where
// `kernels/NAME` points at the version in use and NAME/kernel.json tells of it.
// What is there is used without asking the network.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ScratchApt } from './apt.mjs';
import { CACHE, forget, inScratch, pointAt, settle } from './cache.mjs';
import { capture, Failure, findProgram } from './run.mjs';

const DEBIAN = 'http://deb.debian.org/debian';
const SECURITY = 'http://deb.debian.org/debian-security';
const ARCHIVE = 'http://archive.debian.org/debian';

/**
 * `sources` are tried in order, a set at a time: a suite moves to the archive
 * when its life ends. With `toolchain: 'own'` the suite's gcc and make are
 * unpacked too, for kernels whose flags the host's compiler does not know.
 */
export const KERNELS = {
  debian12: {
    title: 'Debian 12',
    sources: [[`${DEBIAN} bookworm`, `${SECURITY} bookworm-security`], [`${ARCHIVE} bookworm`]],
    toolchain: 'host',
  },
  backports: {
    title: 'Debian 12 backports',
    sources: [
      [`${DEBIAN} bookworm`, `${DEBIAN} bookworm-backports`],
      [`${ARCHIVE} bookworm`, `${ARCHIVE} bookworm-backports`],
    ],
    prefer: 'bookworm-backports',
    toolchain: 'host',
  },
  newest: { title: 'Debian unstable', sources: [[`${DEBIAN} sid`]], toolchain: 'own' },
  debian11: {
    title: 'Debian 11',
    sources: [[`${DEBIAN} bullseye`, `${SECURITY} bullseye-security`], [`${ARCHIVE} bullseye`]],
    toolchain: 'own',
  },
};

export const FOLDER = join(CACHE, 'kernels');
/** They choose the newest version by what they depend on, and are empty themselves. */
const METAPACKAGES = ['linux-image-cloud-amd64', 'linux-headers-cloud-amd64'];
const OF_THE_KERNEL = /^linux-(image|binary|modules|headers|kbuild|compiler)-/;

/** Where a kernel lies, whether it is there or not. */
export const kernelFolder = (name) => join(FOLDER, name);

/** What kernel.json says of a kernel that is there, with absolute paths; undefined when it is not. */
export function readKernel(name) {
  const file = join(kernelFolder(name), 'kernel.json');
  if (!existsSync(file)) return undefined;
  const folder = realpathSync(kernelFolder(name));
  const kernel = JSON.parse(readFileSync(file, 'utf8'));
  const absolute = (path) => (path === undefined ? undefined : join(folder, path));
  return {
    ...kernel,
    folder,
    image: absolute(kernel.image),
    modules: absolute(kernel.modules),
    headers: absolute(kernel.headers),
  };
}

/** The kernel `name`, fetched when it is not there, or when `update` is set and Debian has a newer one. */
export async function ensureKernel(name, { update = false, say = () => {} } = {}) {
  const present = readKernel(name);
  if (present !== undefined && !update) return present;
  try {
    await fetchKernel(name, say);
  } catch (error) {
    if (present === undefined || !(error instanceof Failure)) throw error;
    say(`${name}: stays at ${present.release}; looking for a newer one failed: ${error.message}`);
  }
  return readKernel(name);
}

async function fetchKernel(name, say) {
  const definition = KERNELS[name];
  if (definition === undefined) {
    throw new Failure(`no kernel ${name}: it is one of ${Object.keys(KERNELS).join(', ')}`);
  }
  await inScratch(FOLDER, name, async (scratch) => {
    const { apt, packages } = await resolve(definition, scratch);
    const headers = packages.find(({ name }) => /^linux-headers-\d.*-cloud-amd64$/.test(name));
    if (headers === undefined) throw new Failure(`${definition.title} has no headers of a cloud kernel`);
    const release = headers.name.slice('linux-headers-'.length);
    const final = versionFolder(name, headers.version);
    if (!existsSync(join(final, 'kernel.json'))) {
      say(`${name}: fetching ${release} of ${definition.title} (${packages.length} packages)`);
      const root = join(scratch, 'root');
      await apt.unpack(packages, root);
      if (definition.toolchain === 'host') moveHeaders(root, final);
      else completeRoot(root);
      const { toolchain } = definition;
      await indexModules(root, release);
      writeKernel(root, { name, version: headers.version, toolchain, ...describe(root, release) });
      settle(root, final);
    }
    useKernel(name, final);
  });
}

/** Lets modprobe find the modules below `root`. */
export async function indexModules(root, release) {
  const { code, stderr } = await capture(findProgram('depmod') ?? 'depmod', ['-b', root, release]);
  if (code !== 0) throw new Failure(`depmod for ${release} failed: ${stderr.trim()}`);
}

/** The folder of one version of a kernel. */
export const versionFolder = (name, version) =>
  join(FOLDER, `${name}_${version.replace(/[^A-Za-z0-9.-]/g, '-')}`);

/** Writes kernel.json, which makes the folder `root` a kernel. */
export function writeKernel(root, kernel) {
  writeFileSync(join(root, 'kernel.json'), `${JSON.stringify(kernel, null, 2)}\n`);
}

/** Makes `final` the version in use. */
export function useKernel(name, final) {
  const link = kernelFolder(name);
  const before = existsSync(link) ? [realpathSync(link)] : [];
  pointAt(link, final);
  // the one before stays until the next update: a machine that runs may still read it
  forget(link, [final, ...before]);
}

/** An apt with the lists of the first set of sources that answers, and the packages to take. */
async function resolve({ sources, prefer, toolchain }, scratch) {
  const own = toolchain === 'own' ? ['?essential', 'gcc', 'make'] : [];
  const failures = [];
  for (const [index, set] of sources.entries()) {
    const apt = new ScratchApt(join(scratch, `apt-${index}`), set, { prefer });
    try {
      await apt.update();
      const all = await apt.resolve([...own, ...METAPACKAGES]);
      const wanted = ({ name }) =>
        !METAPACKAGES.includes(name) && (toolchain === 'own' || OF_THE_KERNEL.test(name));
      return { apt, packages: all.filter(wanted) };
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failures.push(error.message);
    }
  }
  throw new Failure(failures.join('\n'));
}

/** Headers name their common part by its installed path: let them name where it lies here. */
function moveHeaders(root, final) {
  for (const folder of readdirSync(join(root, 'usr/src'))) {
    for (const file of ['Makefile', '.kernelvariables']) {
      const path = join(root, 'usr/src', folder, file);
      if (folder.endsWith('-common') || !existsSync(path)) continue;
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, text.replaceAll('/usr/src/linux-headers', `${final}/usr/src/linux-headers`));
    }
  }
}

/** What installing, instead of unpacking, would have made, and a place for the module's sources. */
function completeRoot(root) {
  if (!existsSync(join(root, 'usr/bin/awk'))) symlinkSync('mawk', join(root, 'usr/bin/awk'));
  mkdirSync(join(root, 'mnt'), { recursive: true });
}

/** Paths within the unpacked folder. */
function describe(root, release) {
  const one = (what, ...paths) => {
    const found = paths.find((path) => existsSync(join(root, path)));
    if (found === undefined)
      throw new Failure(`the packages of ${release} hold no ${what}: ${paths.join(', ')}`);
    return found;
  };
  return {
    release,
    image: one('image', `boot/vmlinuz-${release}`, `usr/lib/modules/${release}/vmlinuz`),
    modules: one('modules', `usr/lib/modules/${release}`, `lib/modules/${release}`),
    headers: one('headers', `usr/src/linux-headers-${release}`),
  };
}
