// A container file on the origin's own file system: written past the driver that it serves.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe("a container file on the origin's own file system", () =>
  story('own-container', {
    disks: ['400M', '600M', '400M'],
    memory: '384M',
    cwd: ROOT,
    timeoutMs: 1_800_000,
  }));
