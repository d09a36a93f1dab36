// The second tier of a backup, on dm-delay, dm-error and dm-flakey, while the
// kernel driver spills to it.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('a container device that', () =>
  story('faulty-container', { disks: ['96M', '96M', '64M'], cwd: ROOT, timeoutMs: 900_000 }));
