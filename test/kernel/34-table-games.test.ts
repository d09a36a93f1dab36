// Device-mapper tables are swapped, suspended, removed, and the module unloaded
// under a session: a clear state each time, and no write lost.
import { story } from './helpers/story.js';

describe('a session on a device whose table changes', () => story('table-games', { disks: ['96M'] }));
