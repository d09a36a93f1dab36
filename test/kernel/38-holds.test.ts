// Writes that find the container full: how long they wait, and what ends it.
import { story } from './helpers/story.js';

describe('held writes of the kernel driver', () => story('holds', { disks: ['32M'] }));
