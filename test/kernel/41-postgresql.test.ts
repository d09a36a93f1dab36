// PostgreSQL under pgbench on a mounted file system that is backed up by the kernel driver; what
// test/scenario/50-postgresql does with the user driver.
import { Cleanup } from '../helpers/cleanup.js';
import { makeCluster } from '../helpers/postgresql.js';
import { ROOT } from './helpers/scripts.js';
import { story } from './helpers/story.js';

describe('PostgreSQL with the kernel driver', () => {
  const cleanup = new Cleanup();
  const env: Record<string, string> = {};
  before(async function () {
    this.timeout(60_000);
    env.CLUSTER = await makeCluster(cleanup);
  });
  after(() => cleanup.run());

  story('postgresql', { disks: ['112M', '112M'], memory: '1G', cwd: ROOT, timeoutMs: 900_000, env });
});
