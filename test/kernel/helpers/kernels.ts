/**
 * Which kernels a test runs on. `SNAPBAK_TEST_KERNEL=debug` (npm run test:kernel:debug) puts every test on
 * that one kernel.
 */
import { DEFAULT_KERNEL, findKernel, type KernelName } from '../vm/kernel.js';

/** Those of `names` that this run is for. */
export function testedKernels(...names: KernelName[]): KernelName[] {
  const chosen = process.env.SNAPBAK_TEST_KERNEL;
  return chosen === undefined ? names : [DEFAULT_KERNEL];
}

/** Only with KASAN, lockdep and the others. */
export const onDebugKernel = () => findKernel(DEFAULT_KERNEL).debug;
