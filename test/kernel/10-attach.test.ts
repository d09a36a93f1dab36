// The driver comes and goes under devices in use: whatever fails on the way, the
// device works and has the table it had.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('attaching and detaching', () =>
  story('attach', { disks: ['500M', '500M'], cwd: ROOT, timeoutMs: 1_800_000 }));
