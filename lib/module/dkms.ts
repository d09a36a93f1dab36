/**
 * Installs and removes the kernel module through DKMS, which builds it again for
 * each kernel that is installed later, and signs it where secure boot asks for
 * that. The sources are in this package.
 */
import { execFile } from 'node:child_process';
import { cp, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { SnapbakError } from '../errors.js';
import { TOOL_VERSION } from '../tool-version.js';
import { MODULE, type ModuleFacts, moduleFacts } from './facts.js';

// lib/module/ in the sources and dist/module/ in the package both lie two below the root
const SOURCES = fileURLToPath(new URL('../../kernel-module', import.meta.url));

/** What a build leaves beside the sources. */
const PRODUCT = /(^|\/)(\.[^/]*|[^/]*\.(o|ko|mod|mod\.c|a)|Module\.symvers|modules\.order)$/;

/** What is asked of the machine; tests have one of their own. */
export interface ModuleSystem {
  facts(): Promise<ModuleFacts>;
  isRoot(): boolean;
  /** Rejects with what the program said when it fails. */
  run(program: string, args: string[]): Promise<void>;
  /** The package's sources of the module, without what a build left there. */
  copySources(to: string): Promise<void>;
  remove(folder: string): Promise<void>;
}

export const thisSystem: ModuleSystem = {
  facts: () => moduleFacts(),
  isRoot: () => process.getuid?.() === 0,
  async run(program, args) {
    try {
      await promisify(execFile)(program, args, { maxBuffer: 64 * 2 ** 20 });
    } catch (cause) {
      const { stdout = '', stderr = '' } = cause as { stdout?: string; stderr?: string };
      const said = `${stdout}\n${stderr}`.trim().split('\n').slice(-8).join('\n');
      throw new SnapbakError('ERR_SNAPBAK_IO', `${program} ${args.join(' ')} failed:\n${said}`, { cause });
    }
  },
  async copySources(to) {
    const filter = (path: string) => !PRODUCT.test(path.slice(SOURCES.length));
    await cp(SOURCES, to, { recursive: true, filter });
  },
  remove: (folder) => rm(folder, { recursive: true, force: true }),
};

/** What was installed. */
export interface InstalledModule {
  version: string;
  /** The kernel that it was built for. */
  kernel: string;
  /** It is loaded, in this version. Always false for another kernel than the running one. */
  loaded: boolean;
  /** Why it is not, for people. */
  note?: string;
}

/**
 * Builds and installs the module of this package.
 *
 * @param kernel as `uname -r` says it; default: the running one.
 * @throws SnapbakError `ERR_SNAPBAK_PERMISSION` for all but root,
 * `ERR_SNAPBAK_MISSING` without DKMS or the kernel's headers, `ERR_SNAPBAK_IO`
 * with what DKMS said.
 */
export async function installModule(
  kernel?: string,
  system: ModuleSystem = thisSystem,
): Promise<InstalledModule> {
  expectRoot('install', system);
  const facts = await system.facts();
  expectDkms(facts);
  const target = kernel ?? facts.release;
  if (!facts.headers.includes(target)) {
    throw new SnapbakError(
      'ERR_SNAPBAK_MISSING',
      `the headers of the kernel ${target} are not there; Debian and Ubuntu: apt-get install ` +
        `linux-headers-${target}; if there is no such package any more, update the kernel and reboot`,
    );
  }
  const version = TOOL_VERSION;
  // an older version would be built for new kernels as well
  for (const old of facts.registered) await unregister(old, system);
  await system.remove(sourcesOf(version));
  await system.copySources(sourcesOf(version));
  await system.run('dkms', ['add', `${MODULE}/${version}`]);
  await system.run('dkms', ['install', `${MODULE}/${version}`, '-k', target]);
  const result = { version, kernel: target, loaded: false };
  if (target !== facts.release) return result;
  // DKMS may have made its key just now
  return await load(result, { ...facts, signingKey: (await system.facts()).signingKey }, system);
}

async function load(
  result: InstalledModule,
  { loaded, secureBoot, signingKey }: ModuleFacts,
  system: ModuleSystem,
): Promise<InstalledModule> {
  if (loaded !== undefined && loaded !== result.version) {
    // goes only if nobody uses it
    const gone = await system.run('modprobe', ['-r', MODULE]).then(
      () => true,
      () => false,
    );
    if (!gone) {
      const note = `version ${loaded} is loaded and in use: detach all devices, then "modprobe -r ${MODULE}"`;
      return { ...result, note };
    }
  }
  try {
    await system.run('modprobe', [MODULE]);
    return { ...result, loaded: true };
  } catch (error) {
    const said = (error as Error).message;
    const note = secureBoot
      ? `it is built, but the kernel does not load it (${said}); under secure boot the key of DKMS has to be ` +
        `enrolled: "mokutil --import ${signingKey ?? 'KEY'}", then reboot; see docs/kernel-driver.md`
      : `it is built, but the kernel does not load it: ${said}`;
    return { ...result, note };
  }
}

/**
 * Removes the module for all kernels, in all versions.
 *
 * @returns the versions that were removed
 * @throws SnapbakError `ERR_SNAPBAK_PERMISSION`, `ERR_SNAPBAK_MISSING`;
 * `ERR_SNAPBAK_BUSY` while a device is attached.
 */
export async function uninstallModule(system: ModuleSystem = thisSystem): Promise<string[]> {
  expectRoot('uninstall', system);
  const facts = await system.facts();
  expectDkms(facts);
  if (facts.loaded !== undefined) {
    await system.run('modprobe', ['-r', MODULE]).catch((cause: unknown) => {
      throw new SnapbakError(
        'ERR_SNAPBAK_BUSY',
        'the kernel module is in use: detach all devices first ("snapbak detach"); nothing was removed',
        { cause },
      );
    });
  }
  for (const version of facts.registered) await unregister(version, system);
  return facts.registered;
}

async function unregister(version: string, system: ModuleSystem): Promise<void> {
  await system.run('dkms', ['remove', `${MODULE}/${version}`, '--all']);
  await system.remove(sourcesOf(version));
}

/** Where DKMS looks for the sources. */
function sourcesOf(version: string): string {
  return `/usr/src/${MODULE}-${version}`;
}

function expectRoot(doing: string, system: ModuleSystem): void {
  if (system.isRoot()) return;
  throw new SnapbakError('ERR_SNAPBAK_PERMISSION', `only root may ${doing} the kernel module`);
}

function expectDkms({ dkms, release }: ModuleFacts): void {
  if (dkms) return;
  throw new SnapbakError(
    'ERR_SNAPBAK_MISSING',
    `DKMS is not installed (Debian and Ubuntu: apt-get install dkms linux-headers-${release})`,
  );
}
