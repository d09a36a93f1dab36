// The driver comes and goes where udev runs, as on any machine but those of the
// other stories.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('attaching where udev runs', () =>
  story('attach-udev', { disks: ['200M', '200M'], cwd: ROOT, timeoutMs: 900_000 }));
