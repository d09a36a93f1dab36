// The driver comes and goes under encrypted volumes in use.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('attaching LUKS volumes', () =>
  story('attach-luks', { disks: ['200M'], cwd: ROOT, timeoutMs: 1_800_000 }));
