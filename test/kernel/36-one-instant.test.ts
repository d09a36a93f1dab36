// One START over several origins: a writer that writes the same counter to both
// never finds the one backup ahead of the other.
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('sessions on several origins', () =>
  story('one-instant', { disks: ['32M'], cwd: ROOT, timeoutMs: 1_200_000 }));
