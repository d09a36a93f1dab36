// The owner of a session is killed, at moments that nobody chose: writers go
// on, no acknowledged write is lost, and the next backup works.
import { story } from './helpers/story.js';

describe('the owner of a kernel session is killed', () => story('killed-agent', { disks: ['96M'] }));
