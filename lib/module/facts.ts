/**
 * What this machine says about the kernel module: which kernels have it, whether
 * it is loaded, and what building it would need. Only facts, read anew each time.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { binding, type NativeBinding } from '../binding.js';
import { errnoName } from '../errors.js';
import { findProgram } from '../find-program.js';
import { isNativeError } from '../native-errors.js';

/** The module's file, and the package's name in DKMS. */
export const MODULE = 'dm-snapbak';

/** What is known about the kernel module. */
export interface ModuleFacts {
  /** The running kernel, as `uname -r`. */
  release: string;
  /** Kernels whose headers are there, to build it for. */
  headers: string[];
  /** Kernels that have the module installed. */
  installed: string[];
  /** The version that is loaded; absent: none is. */
  loaded?: string;
  /** What the loaded module answered, or the errno of why it could not be asked. */
  driver?: { version: string; abiVersion: number } | { errno: string };
  /** DKMS is installed. */
  dkms: boolean;
  /** Versions that DKMS knows. */
  registered: string[];
  /** The firmware lets the kernel load signed modules only; undefined: it could not be read. */
  secureBoot: boolean | undefined;
  /** The certificate of the key with which DKMS signs modules, once it has made one. */
  signingKey: string | undefined;
  libdevmapper: boolean;
}

/** Where facts are looked for; tests have places of their own. */
export interface ModulePlaces {
  /** The folder that holds `lib`, `sys` and `var`. */
  root: string;
  release: string;
  findProgram(name: string): string | undefined;
  native(): NativeBinding;
}

export const thisMachine: ModulePlaces = { root: '/', release: release(), findProgram, native: binding };

/** Of Debian and others; of Ubuntu. */
const KEYS = ['/var/lib/dkms/mok.pub', '/var/lib/shim-signed/mok/MOK.der'];

/** UEFI's global variables have this GUID; see the UEFI specification, 3.3. */
const SECURE_BOOT = 'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';

export async function moduleFacts(places: ModulePlaces = thisMachine): Promise<ModuleFacts> {
  const at = (...path: string[]) => join(places.root, ...path);
  const modules = at('lib/modules');
  const kernels = (await readdir(modules).catch(() => [])).sort();
  const facts: ModuleFacts = {
    release: places.release,
    headers: kernels.filter((kernel) => existsSync(join(modules, kernel, 'build/Makefile'))),
    installed: await installedFor(modules, kernels),
    dkms: places.findProgram('dkms') !== undefined,
    registered: await versionsIn(at('var/lib/dkms', MODULE)),
    secureBoot: await secureBoot(at('sys/firmware/efi'), at(SECURE_BOOT)),
    signingKey: KEYS.find((path) => existsSync(at(path))),
    libdevmapper: places.native().deviceMapper.installed(),
  };
  const loaded = await readFile(at('sys/module/dm_snapbak/version'), 'utf8').catch(() => undefined);
  if (loaded !== undefined) {
    facts.loaded = loaded.trim();
    facts.driver = askDriver(places);
  }
  return facts;
}

/** DKMS puts it in the first; `make install` in the second, some distributions elsewhere. */
const FOLDERS = ['updates/dkms', 'updates', 'extra', 'kernel/drivers/md', 'weak-updates'];
const FILE = new RegExp(`^${MODULE}\\.ko(\\.(xz|zst|gz))?$`);

async function installedFor(modules: string, kernels: string[]): Promise<string[]> {
  const found: string[] = [];
  for (const kernel of kernels) {
    const lists = FOLDERS.map((folder) => readdir(join(modules, kernel, folder)).catch(() => []));
    if ((await Promise.all(lists)).flat().some((name) => FILE.test(name))) found.push(kernel);
  }
  return found;
}

/** Folders of DKMS named after versions; beside them lie links named after kernels. */
async function versionsIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isDirectory() && /^\d+\.\d+\.\d+/.test(entry.name))
    .map(({ name }) => name)
    .sort();
}

async function secureBoot(efi: string, variable: string): Promise<boolean | undefined> {
  if (!existsSync(efi)) return false; // booted without UEFI
  const content = await readFile(variable).catch(() => undefined);
  // four bytes of attributes, then the value
  return content?.length === 5 ? content[4] === 1 : undefined;
}

function askDriver({ native }: ModulePlaces): Exclude<ModuleFacts['driver'], undefined> {
  try {
    return native().queryKernelDriver();
  } catch (error) {
    if (isNativeError(error)) return { errno: errnoName(error.errno) };
    throw error;
  }
}
