// Debian packages that building and testing need: installs them where it may,
// else says exactly what is missing and how to get it.
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { capture, Failure, findProgram, LOGS, quiet } from './run.mjs';
import { dim } from './terminal.mjs';

const headerFolders = ['/usr/include', '/usr/local/include'];
const program = (name) => () => findProgram(name) !== undefined;
const header = (path) => () => headerFolders.some((folder) => existsSync(`${folder}/${path}`));

/** How to see that a package's content is there, on systems without dpkg too. */
const PROBES = {
  python3: program('python3'),
  make: program('make'),
  'g++': program('g++'),
  'pkg-config': program('pkg-config'),
  cmake: program('cmake'),
  'ninja-build': program('ninja'),
  'libblkid-dev': header('blkid/blkid.h'),
  'libdevmapper-dev': header('libdevmapper.h'),
  'libext2fs-dev': header('ext2fs/ext2fs.h'),
  'comerr-dev': header('et/com_err.h'),
  'nbdkit-plugin-dev': header('nbdkit-plugin.h'),
  nbdkit: program('nbdkit'),
  'libnbd-bin': program('nbdfuse'),
  fuse3: program('fusermount3'),
  mount: program('losetup'),
  'util-linux': program('fsfreeze'),
  e2fsprogs: program('e2fsck'),
  xfsprogs: program('xfs_repair'),
  fdisk: program('sfdisk'),
  'qemu-utils': program('qemu-io'),
  fio: program('fio'),
  postgresql: () => serversOfPostgresql(),
  'qemu-system-common': program('qemu-storage-daemon'),
  'libgtest-dev': header('gtest/gtest.h'),
  spin: program('spin'),
  gcc: program('gcc'),
  clang: program('clang++'),
  'libclang-rt-14-dev': () => runtimeOfClang(),
  'clang-format': program('clang-format'),
  git: program('git'),
  'debian-archive-keyring': () => existsSync('/usr/share/keyrings/debian-archive-keyring.gpg'),
  'qemu-system-x86': program('qemu-system-x86_64'),
  'busybox-static': program('busybox'),
  cpio: program('cpio'),
  kmod: program('depmod'),
  zstd: program('zstd'),
  lz4: program('lz4'),
  'xz-utils': program('xz'),
  sparse: program('sparse'),
  pahole: program('pahole'),
  dmsetup: program('dmsetup'),
  lvm2: program('lvm'),
  'cryptsetup-bin': program('cryptsetup'),
  keyutils: program('keyctl'),
  udev: () => existsSync('/lib/systemd/systemd-udevd'),
  'btrfs-progs': program('mkfs.btrfs'),
  vmtouch: program('vmtouch'),
  flex: program('flex'),
  bison: program('bison'),
  bc: program('bc'),
  'libelf-dev': header('libelf.h'),
};

function runtimeOfClang() {
  const roots = ['/usr/lib/llvm-14/lib/clang', '/usr/lib/clang', '/usr/lib64/clang'];
  return roots.some(
    (root) =>
      existsSync(root) &&
      readdirSync(root, { recursive: true }).some((path) => String(path).includes('clang_rt.fuzzer')),
  );
}

/** Debian keeps them out of the path, each version in a folder of its own. */
function serversOfPostgresql() {
  const root = '/usr/lib/postgresql';
  return (
    existsSync(root) && readdirSync(root).some((version) => existsSync(`${root}/${version}/bin/postgres`))
  );
}

/** To build the addon and the nbdkit plugin. */
export const BUILD_PACKAGES = [
  'python3',
  'make',
  'g++',
  'pkg-config',
  'cmake',
  'ninja-build',
  'libblkid-dev',
  'libdevmapper-dev',
  'libext2fs-dev',
  'comerr-dev',
  'nbdkit-plugin-dev',
];

/** To serve an image and to mount a file system on it. */
export const LIVE_PACKAGES = ['nbdkit', 'libnbd-bin', 'fuse3', 'mount', 'util-linux', 'e2fsprogs'];

/** For the native tests, sanitizers and fuzzers. */
export const NATIVE_TEST_PACKAGES = ['libgtest-dev', 'clang', 'libclang-rt-14-dev'];

/** For the models of docs/model. */
export const MODEL_PACKAGES = ['spin', 'gcc'];

/** For the scenarios with real programs. */
export const SCENARIO_PACKAGES = [
  ...LIVE_PACKAGES,
  'xfsprogs',
  'btrfs-progs',
  'lvm2',
  'fdisk',
  'qemu-utils',
  'fio',
  'postgresql',
];

/** For the virtual machines, what their guests run (they see the host's programs), and the module's build. */
export const KERNEL_PACKAGES = [
  ...BUILD_PACKAGES,
  'debian-archive-keyring',
  'qemu-system-x86',
  'qemu-system-common',
  'busybox-static',
  'cpio',
  'kmod',
  'zstd',
  'lz4',
  'xz-utils',
  'sparse',
  'pahole',
  'dmsetup',
  'lvm2',
  'cryptsetup-bin',
  'keyutils',
  'udev',
  'btrfs-progs',
  'e2fsprogs',
  'xfsprogs',
  'util-linux',
  'fio',
  'vmtouch',
  'postgresql',
];

/** To build the debug kernel. */
export const DEBUG_KERNEL_PACKAGES = [
  'debian-archive-keyring',
  'make',
  'g++',
  'xz-utils',
  'lz4',
  'flex',
  'bison',
  'bc',
  'libelf-dev',
];

/** For the benchmarks: fio and the peers. */
export const BENCH_PACKAGES = [
  'nbdkit',
  'libnbd-bin',
  'qemu-utils',
  'qemu-system-common',
  'fio',
  'util-linux',
];

/** For the checks of .ci/run. */
export const CHECK_PACKAGES = ['git', 'clang-format'];

/** Those of the list that are not there. */
export function missingPackages(list) {
  return list.filter((name) => {
    const probe = PROBES[name];
    if (probe === undefined) throw new TypeError(`no probe for the package ${name}`);
    return !probe();
  });
}

export const mayInstall = () => process.getuid?.() === 0 && findProgram('apt-get') !== undefined;

let updated = false;

/**
 * Debian's PostgreSQL makes and starts a cluster when it is installed, which nobody here wants: what says
 * so is taken back when it is installed. Nothing is changed for one that is there.
 */
async function withoutCluster(install) {
  const folder = '/etc/postgresql-common/createcluster.d';
  const made = mkdirSync(folder, { recursive: true });
  const file = join(folder, 'snapbak-tests.conf');
  writeFileSync(file, 'create_main_cluster = false\n');
  try {
    await install();
  } finally {
    rmSync(file, { force: true });
    // the package may have come with it, or somebody put a file in
    if (made !== undefined && readdirSync(folder).length === 0) rmdirSync(folder);
  }
}

/**
 * Installs what is missing of `list`, as root on Debian and Ubuntu; anywhere
 * else throws a `Failure` that names what is missing and the command to get it.
 */
export async function ensurePackages(list, why) {
  const missing = missingPackages([...new Set(list)]);
  if (missing.length === 0) return;
  if (!mayInstall()) {
    const command = `apt-get install --no-install-recommends ${missing.join(' ')}`;
    throw new Failure(
      `Missing ${why}: ${missing.join(', ')}.\n` +
        `These are the names of Debian packages; to install them:\n  sudo ${command}\n` +
        'or run this command again as root, which does it for you.',
    );
  }
  console.log(dim(`Installing ${why}: ${missing.join(' ')} (log: ${LOGS}/apt.log)`));
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const lock = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  if (!updated) {
    // stale lists name versions that the mirrors no longer hold
    await quiet('apt', 'apt-get', [...lock, '-qq', 'update'], { env });
    updated = true;
  }
  const install = [...lock, '-qq', '-y', '--no-install-recommends', 'install', ...missing];
  const apt = () => quiet('apt', 'apt-get', install, { env, append: true });
  await (missing.includes('postgresql') ? withoutCluster(apt) : apt());
  const still = missingPackages(missing);
  if (still.length > 0) {
    throw new Failure(
      `apt-get installed ${missing.join(' ')}, but these are still not usable: ${still.join(', ')}`,
    );
  }
}

/** Why live file systems cannot be used here, or an empty list. */
export async function liveObstacles() {
  const obstacles = [];
  if (process.getuid?.() !== 0) obstacles.push('mounting needs root');
  for (const [device, module] of [
    ['/dev/fuse', 'fuse'],
    ['/dev/loop-control', 'loop'],
  ]) {
    if (existsSync(device)) continue;
    // a container without the device cannot load the module either: then it stays missing
    if (process.getuid?.() === 0 && findProgram('modprobe')) await capture('modprobe', [module]);
    if (!existsSync(device)) obstacles.push(`there is no ${device} (modprobe ${module})`);
  }
  return obstacles;
}
