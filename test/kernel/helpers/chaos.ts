/** The machine in which guest/stories/chaos.sh runs. */
import { onDebugKernel } from './kernels.js';
import { ROOT } from './scripts.js';
import type { StoryOptions } from './story.js';

/** How long a busy host may keep a request of the guest, besides what the driver may. */
const SLACK_MS = onDebugKernel() ? 60_000 : 10_000;

export const CHAOS_MACHINE = {
  disks: ['32M', '32M', '32M'],
  memory: onDebugKernel() ? '2G' : '512M',
  cwd: ROOT,
  timeoutMs: 900_000,
  env: { SLACK: String(SLACK_MS), ...(onDebugKernel() ? { MIB_LEFT: '64' } : {}) },
} satisfies StoryOptions;
