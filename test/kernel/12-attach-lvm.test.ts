// The driver comes and goes under volumes of LVM, which goes on with its work.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('attaching LVM volumes', () =>
  story('attach-lvm', { disks: ['200M', '200M'], cwd: ROOT, timeoutMs: 1_800_000 }));
