/**
 * The kernels that machines boot: what scripts/kernels.mjs and
 * scripts/debug-kernel.mjs put into the cache, described there by kernel.json.
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { VmError } from './errors.js';

/** Debian 12's, its backports', Debian unstable's, Debian 11's, and ours with every detector. */
export const KERNEL_NAMES = ['debian12', 'backports', 'newest', 'debian11', 'debug'] as const;
export type KernelName = (typeof KERNEL_NAMES)[number];

/** What runs without asking for a kernel: `SNAPBAK_TEST_KERNEL`, else Debian 12's. */
export const DEFAULT_KERNEL = (process.env.SNAPBAK_TEST_KERNEL ?? 'debian12') as KernelName;

export interface Kernel {
  name: KernelName;
  /** As `uname -r` tells it. */
  release: string;
  folder: string;
  image: string;
  /** The folder `lib/modules` that holds a folder named by the release. */
  modules: string;
  /** Timer interrupts a second. */
  hz: number;
  /** Made with the detectors of the debug kernel: slow, and needs memory. */
  debug: boolean;
}

/** What kernel.json says; paths are within the kernel's folder. */
type Facts = Record<'release' | 'image' | 'modules' | 'headers', string>;

const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'snapbak');

export function findKernel(name: string): Kernel {
  if (!(KERNEL_NAMES as readonly string[]).includes(name)) {
    throw new VmError('rig', `no kernel ${name}: it is one of ${KERNEL_NAMES.join(', ')}`);
  }
  const link = join(CACHE, 'kernels', name);
  if (!existsSync(join(link, 'kernel.json'))) {
    const script = name === 'debug' ? 'debug-kernel.mjs' : `kernels.mjs ${name}`;
    throw new VmError(
      'rig',
      `the kernel ${name} is not in ${dirname(link)}; to get it: node scripts/${script}`,
    );
  }
  // the version of now, also when another process updates the link while a machine runs
  const folder = realpathSync(link);
  const facts = JSON.parse(readFileSync(join(folder, 'kernel.json'), 'utf8')) as Facts;
  const config = readFileSync(join(folder, facts.headers, '.config'), 'utf8');
  return {
    name: name as KernelName,
    release: facts.release,
    folder,
    image: join(folder, facts.image),
    modules: join(folder, dirname(facts.modules)),
    hz: Number(/^CONFIG_HZ=(\d+)$/m.exec(config)?.[1] ?? 250),
    debug: name === 'debug',
  };
}
