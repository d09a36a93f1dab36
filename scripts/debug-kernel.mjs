// Builds the kernel with KASAN, lockdep, kmemleak and fault injection that
// `npm run test:kernel:debug` runs on, once; it stays in the cache.
//   node scripts/debug-kernel.mjs [--update]
import { parseArgs } from 'node:util';
import { ensureDebugKernel } from './lib/debug-kernel.mjs';
import { DEBUG_KERNEL_PACKAGES, ensurePackages } from './lib/packages.mjs';
import { fail } from './lib/run.mjs';
import { good, note, seconds } from './lib/terminal.mjs';

try {
  const { values } = parseArgs({ options: { update: { type: 'boolean', default: false } } });
  await ensurePackages(DEBUG_KERNEL_PACKAGES, 'to build the debug kernel');
  const kernel = await ensureDebugKernel({ update: values.update, say: note });
  const took = seconds(kernel.buildSeconds * 1000);
  good(`debug: ${kernel.release} (built in ${took}) in ${kernel.folder}`);
} catch (error) {
  fail(error);
}
