// What in a guest's console counts as a complaint of its kernel. Samples are
// lines of real kernels.
import assert from 'node:assert/strict';
import { GuestConsole } from './vm/console.js';

const COMPLAINTS = [
  '[   12.345678] WARNING: CPU: 1 PID: 312 at block/bio.c:1521 bio_endio+0x1a/0x1c0',
  '[    5.748990] WARNING: dm-snapbak.c:80 at faulty_init+0x25/0xff0 [dm_snapbak], CPU#0: insmod/138',
  '[    3.2] WARNING: possible circular locking dependency detected',
  '[    3.2] WARNING: possible recursive locking detected',
  '[    3.2] WARNING: suspicious RCU usage',
  '[    3.2] WARNING: bad unlock balance detected!',
  '[    9.1] BUG: KASAN: use-after-free in snapbak_map+0x12/0x40 [dm_snapbak]',
  '[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000010',
  '[    9.1] BUG: sleeping function called from invalid context at mm/slab.h:420',
  '[    9.1] BUG: scheduling while atomic: kworker/0:1/9/0x00000002',
  '[    9.1] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 121s!',
  '[    9.1] watchdog: BUG: soft lockup - CPU#0 stuck for 134s! [fio:311]',
  '[    9.1] Oops: 0000 [#1] PREEMPT SMP NOPTI',
  '[    9.1] Oops: general protection fault, probably for non-canonical address: 0000 [#1] SMP NOPTI',
  '[    9.1] kernel BUG at drivers/md/dm.c:1234!',
  '[    9.1] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI',
  '[    9.1] Kernel panic - not syncing: Fatal exception',
  '[  131.5] INFO: task fio:311 blocked for more than 60 seconds.',
  '[  131.5] INFO: task fio:311 blocked in I/O wait for more than 60 seconds.',
  '[   80.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:',
  '[   80.1] rcu: INFO: rcu_sched self-detected stall on CPU',
  '[   80.1] INFO: trying to register non-static key.',
  '[   80.1] UBSAN: array-index-out-of-bounds in dm-snapbak-target.c:44:3',
  '[   80.1] ODEBUG: free active (active state 0) object type: timer_list hint: wake+0x0/0x20',
  '[   80.1] refcount_t: underflow; use-after-free.',
  '[   80.1] list_del corruption. prev->next should be ffff88, but was dead000000000100',
  '[   80.1] DEBUG_LOCKS_WARN_ON(lock->magic != lock)',
  '[   80.1] kmemleak: unreferenced object 0xffff888004a8c000 (size 64):',
  '[   80.1] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
];

const HARMLESS = [
  '[    0.616716] PCI: Fatal: No config space access function found',
  '[    4.719201] dm_snapbak: loading out-of-tree module taints kernel.',
  '[    3.793739] device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled. Duplicate IMA measurements will',
  '[    5.0] EXT4-fs (dm-0): mounted filesystem with ordered data mode. Quota mode: none.',
  '[    5.0] Buffer I/O error on dev dm-0, logical block 0, async page read',
  '[    5.0] FAULT_INJECTION: forcing a failure.',
  '[    5.0] Out of memory: Killed process 412 (fio) total-vm:51200kB',
  '[    5.0] debug: kmemleak scan done',
];

describe("the reader of a guest's console", () => {
  for (const line of COMPLAINTS) {
    it(`takes for a complaint: ${line}`, () => {
      const console = new GuestConsole();
      console.push('[    1.0] before\n');
      // pieces end where they end
      for (const part of line.match(/.{1,7}/g)!) console.push(part);
      assert.equal(console.report, undefined);
      console.push('\n[ 99.0] after\n');
      assert.equal(console.report, line);
    });
  }

  it('takes nothing else for one', () => {
    const console = new GuestConsole();
    console.push(`${HARMLESS.join('\n')}\n`);
    assert.equal(console.report, undefined);
  });

  it('passes what a test provokes on purpose, and only that', () => {
    const console = new GuestConsole([/at block\/bio\.c/]);
    console.push(`${COMPLAINTS[0]}\n`);
    assert.equal(console.report, undefined);
    console.push(`${COMPLAINTS[5]}\n`);
    assert.equal(console.report, COMPLAINTS[5]);
  });

  it('tells at once, and once, that a task hangs', () => {
    let told = 0;
    const console = new GuestConsole([], () => {
      told += 1;
    });
    console.push(`${COMPLAINTS[0]}\n`);
    assert.equal(told, 0);
    for (let n = 0; n < 3; n += 1)
      console.push('[  131.5] INFO: task fio:311 blocked for more than 60 seconds.\n');
    assert.equal(told, 1);
    assert.equal(console.hung, true);
  });

  it("knows QEMU's stale code from a fault of the kernel", () => {
    const stale = new GuestConsole();
    stale.push('[    0.811694] Oops: int3: 0000 [#1] SMP NOPTI\n');
    assert.equal(stale.stale, true);
    const fault = new GuestConsole();
    fault.push('[    9.1] Oops: 0000 [#1] PREEMPT SMP NOPTI\n');
    assert.equal(fault.stale, false);
  });

  it('quotes from the first complaint on', () => {
    const console = new GuestConsole();
    for (let n = 0; n < 50; n += 1) console.push(`[    0.${n}] line ${n}\n`);
    console.push(`${COMPLAINTS[0]}\n[   12.9] Call Trace:\n`);
    const quoted = console.excerpt(20).split('\n');
    assert.equal(quoted[0], '[    0.47] line 47');
    assert.equal(quoted[3], COMPLAINTS[0]);
    assert.equal(quoted[4], '[   12.9] Call Trace:');
  });
});
