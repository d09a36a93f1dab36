// What the application of a kernel origin waits is counted by the system
// (/sys/dev/block), not by the driver: the governor takes it from there.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('the sweep of a kernel origin yields', () =>
  story('yield', { disks: ['96M'], cwd: ROOT, timeoutMs: 600_000 }));
