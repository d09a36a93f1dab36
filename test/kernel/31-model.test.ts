// The model test and the stamped-sector loops, on real devices: any
// interleaving of requests, sweeps, drains and aborts. SEED=N makes it another
// run, ROUNDS=N a longer one.
import { story } from './helpers/story.js';

describe('any session of the kernel driver', () =>
  story('model', { disks: ['96M', { size: '96M', blockSize: 4096 }], timeoutMs: 900_000 }));
