// Fetches the kernels that the module is built for and tested on.
//   node scripts/kernels.mjs [--update] [NAME...]
// Names: see scripts/lib/kernels.mjs. Prints, for each, its release and folder.
import { parseArgs } from 'node:util';
import { ensureKernel, KERNELS } from './lib/kernels.mjs';
import { fail } from './lib/run.mjs';
import { good, note } from './lib/terminal.mjs';

try {
  const { values, positionals } = parseArgs({
    options: { update: { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const names = positionals.length > 0 ? positionals : Object.keys(KERNELS);
  const results = await Promise.allSettled(
    names.map(async (name) => {
      const kernel = await ensureKernel(name, { update: values.update, say: note });
      good(`${name}: ${kernel.release} (${kernel.version}) in ${kernel.folder}`);
    }),
  );
  const failed = results.find(({ status }) => status === 'rejected');
  if (failed !== undefined) throw failed.reason;
} catch (error) {
  fail(error);
}
