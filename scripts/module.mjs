// Builds dm-snapbak.ko for kernels of the tests, and prints the path of each.
//   node scripts/module.mjs [--sparse] [--sources FOLDER] [KERNEL...]    default: debian12
// With --sparse: checks the sources by sparse instead, and fails when it says anything.
import { parseArgs } from 'node:util';
import { buildModule, checkModule, SOURCES } from './lib/module.mjs';
import { Failure, fail } from './lib/run.mjs';

try {
  const { values, positionals } = parseArgs({
    options: { sparse: { type: 'boolean', default: false }, sources: { type: 'string', default: SOURCES } },
    allowPositionals: true,
  });
  for (const name of positionals.length > 0 ? positionals : ['debian12']) {
    const options = { sources: values.sources, say: (text) => console.error(text) };
    if (values.sparse) {
      const lines = await checkModule(name, options);
      if (lines.length > 0) throw new Failure(`${name}: sparse says:\n${lines.join('\n')}`);
    } else {
      console.log(await buildModule(name, options));
    }
  }
} catch (error) {
  fail(error);
}
