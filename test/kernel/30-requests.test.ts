// Each kind of request that can meet a pending block: what is captured, what
// reaches the lower device, and in how many requests.
import { story } from './helpers/story.js';

describe('a session of the kernel driver', () => story('requests', { disks: ['96M'] }));
