// A small machine, its memory full of dirty pages of the very device that is
// backed up: no write of ours waits for memory that only a held write could free.
import { story } from './helpers/story.js';

describe('a machine short of memory', () =>
  story('memory-pressure', { disks: ['800M'], memory: '320M', timeoutMs: 600_000 }));
