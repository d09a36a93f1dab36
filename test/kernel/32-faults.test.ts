// Devices that fail, under the origin and under the target: dm-error,
// dm-flakey, dm-delay, a disk with a medium error, and one that is pulled out;
// on the debug kernel, which has it, dm-dust too.
import { onDebugKernel } from './helpers/kernels.js';
import { story } from './helpers/story.js';

describe('a session on failing devices', () => story('faults', { disks: ['96M'] }));

if (onDebugKernel()) {
  describe('a session on a device with bad blocks', () => story('dust', { disks: ['96M'] }));
}
