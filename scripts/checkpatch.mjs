// Checks the kernel module's style by the kernel's own checkpatch.pl, and fails
// when it says anything that scripts/lib/checkpatch.mjs has no reason for.
//   node scripts/checkpatch.mjs [--sources FOLDER]
import { parseArgs } from 'node:util';
import { checkStyle } from './lib/checkpatch.mjs';
import { Failure, fail } from './lib/run.mjs';
import { good } from './lib/terminal.mjs';

try {
  const { values } = parseArgs({ options: { sources: { type: 'string' } } });
  const lines = await checkStyle({ ...values, say: (text) => console.error(text) });
  if (lines.length > 0) throw new Failure(lines.join('\n'));
  good('checkpatch.pl has nothing to say');
} catch (error) {
  fail(error);
}
