// SPDX-License-Identifier: MIT
// What the threads of one copy session share: who they work for, the queues,
// the counters, and the few steps that several of them take.
#pragma once

#include <memory>

#include "block_fates.h"
#include "clone.h"
#include "copy_counters.h"
#include "copy_session.h"
#include "hint_box.h"
#include "job_queue.h"
#include "notifier.h"
#include "slot_return.h"
#include "stop_signal.h"
#include "view_gate.h"

namespace snapbak {

class CopyState {
 public:
  CopyState(Driver* driver, SharedMemory* memory, LowerView lower, Target* target, Tier2Set* tiers,
            ChecksumFile* checksums, const CopyOptions& options, std::function<void(const Notice&)> notify);

  // Bytes of `count` blocks from `first` on; less than whole blocks at the end.
  uint64_t BytesOf(uint64_t first, uint64_t count) const;
  uint64_t max_run_blocks() const { return max_run_blocks_; }

  // Call it after bits were cleared, slots returned, or events taken.
  void KickIfWaiting();
  // Tells the driver's watchdog that the library gets on.
  void Progress();

  // The driver still captures. It says so no more before it lets a write pass by a bit that is set, or by a
  // capture under way: what was read before this look, and was pending or captured, is the start instant's.
  bool IsCapturing() const;
  // `count` blocks from `first` on reached the target with their checksums, `zero` of them as zeroes.
  void Done(uint64_t first, uint64_t count, uint64_t zero);
  // The origin could not be read there; `block` is ours and stays without content.
  void Invalid(uint64_t block, int error);
  // `count` blocks that were pending are ours, and are not to be copied after all.
  void Unlisted(uint64_t count);
  // All that is listed was settled.
  bool IsComplete() const { return counters.settled == counters.listed; }
  // Gives a slot back to the driver.
  void ReturnSlot(uint32_t slot);
  // What the driver reads before it delays a write.
  void SetThrottle(const snapbak_throttle& throttle);

  // A second tier failed: nothing goes there any more, and what is there should leave while it can be read.
  // Told once a tier.
  void GiveUpTier(uint32_t tier, int error);
  // The session will not complete: copiers stop writing, captures pile up.
  void FailTarget(int error);
  // The session is over.
  void FailSession(NoticeKind kind, int error, uint32_t reason);

  Driver* const driver;
  SharedMemory* const memory;
  const LowerView lower;
  Target* const target;
  Tier2Set* const tiers;          // may be null
  ChecksumFile* const checksums;  // may be null
  const CopyOptions options;
  const uint64_t nr_blocks;
  const uint32_t block_size;

  std::shared_ptr<Clone> clone;  // may be null; set before any thread runs
  // Views have them, too, and longer.
  const std::shared_ptr<BlockFates> fates;
  const std::shared_ptr<ViewGate> view_gate;

  CopyCounters counters;
  Notifier notifier;
  HintBox hints;
  StopSignal stop;

 private:
  void Settle(uint64_t count);

  const uint64_t max_run_blocks_;

 public:
  JobQueue jobs;
  SlotReturn free_slots;
};

}  // namespace snapbak
