// snapbak backup itself is killed with SIGKILL while the kernel driver serves
// it; 33-killed-agent does the same a hundred times with a smaller program.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('snapbak backup is killed', () =>
  story('killed-cli', { disks: ['96M'], cwd: ROOT, timeoutMs: 900_000 }));
