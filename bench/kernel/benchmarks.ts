/** All kernel benchmarks, in the order in which they run; the host and the guest read the same list. */
import { arming } from './arming.js';
import { firstTouch, firstTouchCost } from './first-touch.js';
import type { KernelBenchmark } from './lib/benchmark.js';
import { memory } from './memory.js';
import { settled, settledClock } from './settled.js';
import { sweep } from './sweep.js';

export const BENCHMARKS: KernelBenchmark[] = [
  firstTouch,
  firstTouchCost,
  settled,
  settledClock,
  sweep,
  arming,
  memory,
];
