// What Snapbak is for, as an administrator does it: attach, back up, detach and
// restore a file system that is in use all the time.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('the main job with the kernel driver', () =>
  story('main-job', {
    disks: ['512M', '512M', '512M', '512M'],
    memory: '2G',
    cwd: ROOT,
    timeoutMs: 1_800_000,
  }));
