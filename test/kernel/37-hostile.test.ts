// Whatever a process writes into the shared memory, asks for, or does with its
// descriptors, it spoils its own backup and nothing else.
import { story } from './helpers/story.js';

describe('a hostile library', () => story('hostile', { disks: ['32M'] }));
