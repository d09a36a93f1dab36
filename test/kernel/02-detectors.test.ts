// Faults that a driver can have, committed on purpose by test/kernel/faulty-module:
// each fails its run. Without this, a kernel that no longer looks for something
// would let every other test pass.
import assert from 'node:assert/strict';
import { onDebugKernel, testedKernels } from './helpers/kernels.js';
import { moduleFor, ROOT } from './helpers/scripts.js';
import { VmError } from './vm/errors.js';
import type { KernelName } from './vm/kernel.js';
import { runVm } from './vm/run.js';

/** Every kernel's. */
const ALWAYS: [fault: string, report: RegExp][] = [
  ['warning', /WARNING: .*\bdm-snapbak\.c:\d+/],
  ['bug', /kernel BUG at .*dm-snapbak\.c/],
];

/** The debug kernel's alone. */
const DETECTED: [fault: string, report: RegExp][] = [
  ['deadlock', /possible circular locking dependency/],
  ['leak', /kmemleak: unreferenced object .*size 64/],
  ['use-after-free', /BUG: KASAN: (slab-)?use-after-free/],
  ['beyond-the-end', /BUG: KASAN: slab-out-of-bounds/],
  ['sleep-under-spinlock', /BUG: (scheduling while atomic|sleeping function called from invalid context)/],
];

describe('a faulty module fails the run', () => {
  const kernels: KernelName[] = testedKernels('debian12', 'newest');
  const faults = onDebugKernel() ? [...ALWAYS, ...DETECTED] : ALWAYS;

  for (const kernel of kernels) {
    for (const [fault, report] of faults) {
      it(`by its ${fault}, on ${kernel}`, async () => {
        const module = await moduleFor(kernel, `${ROOT}/test/kernel/faulty-module`);
        // the module stays, so that its own memory is no leak
        const command = ['insmod', module, `fault=${fault}`];
        const error = await runVm({ kernel, command }).then(
          () => assert.fail('the run did not fail'),
          (error: unknown) => error,
        );
        assert.ok(error instanceof VmError, String(error));
        assert.equal(error.code, 'report', error.message);
        assert.match(error.output.console, report);
      });
    }

    it(`and a module without a fault does not, on ${kernel}`, async () => {
      const module = await moduleFor(kernel, `${ROOT}/test/kernel/faulty-module`);
      const { status, console } = await runVm({ kernel, command: ['insmod', module] });
      assert.equal(status, 0, console);
    });
  }
});
