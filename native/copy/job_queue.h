// SPDX-License-Identifier: MIT
// What copiers and spiller do next, under one lock: blocks that a held write
// wants, captured slots, blocks in tier 2, work for the sweep. The pump and the
// scheduler put in; the order in which copiers take is the heart of "held
// writes first, then room, then progress".
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "copy_counters.h"
#include "fixed_queue.h"
#include "spill_queue.h"
#include "work_queue.h"

namespace snapbak {

struct CapturedBlock {
  uint64_t block;
  uint32_t slot;
};

struct Job {
  enum class Kind { kNone, kWanted, kCaptured, kSpilled, kSweep };
  Kind kind = Kind::kNone;
  bool need_work = false;  // send kNeedWork before anything else
  uint64_t wanted = 0;
  CapturedBlock captured{};
  SpilledBlock spilled{};
  BlockRun run{};
};

class JobQueue {
 public:
  JobQueue(const __u64* bitmap, uint64_t nr_blocks, uint32_t block_size, uint32_t nr_slots,
           const Tier2Set* tiers, const CopyCounters* counters, uint64_t max_run_blocks,
           uint32_t watermark_low);

  // --- the pump. False: a slot came that is with us already, so the driver is
  // not to be trusted; nothing was added.
  bool AddEvents(const std::vector<CapturedBlock>& captured, const std::vector<uint64_t>& wanted);

  // --- copiers. Takes the best job, or sleeps until there is one. `job` is the
  // one that the caller has just done. False: stopped.
  bool Take(Job* job);
  // Takes a slot off the account; call it before the driver may see it again.
  // Returns how many are left on it.
  uint32_t SlotReturned(uint32_t slot);
  void PlaceFreed();
  void PutBack(const CapturedBlock& captured);
  void PutBack(const SpilledBlock& spilled);

  // --- the spiller. Sleeps until a captured block has to go to tier 2 and there
  // is room. False: stopped, or the session is over.
  bool TakeForSpill(CapturedBlock* captured);
  void AddSpilled(const SpilledBlock& spilled);

  // --- whoever lost a second tier, or moved its end, when that is done
  void TierChanged(uint32_t tier);

  // --- readers of the point-in-time view
  enum class Found { kInSlot, kSettled, kOver };
  // Waits for a block that is not pending: until it is in a slot, and `copy` has
  // been called with that, under the lock; until `settled` says so; or until
  // nobody copies any more. Meanwhile it goes before all but wanted blocks where
  // it is in a second tier. `settled` is called with the lock held, too.
  Found AwaitBlock(uint64_t block, const std::function<bool()>& settled,
                   const std::function<void(uint32_t slot)>& copy);
  // The same for who reads a clone: the block may be pending, and is asked for, with as many as are pending
  // behind it in the run; and it is wanted in the clone, not in a slot. What is asked for is swept before all
  // other work, taking turns with slots where those are short, and whether the sweep is paused or not.
  Found AwaitDemand(BlockRun run, const std::function<bool()>& settled);
  // After something that `settled` looks at. Costs one look where nobody waits.
  void WakeReadersIfAny() {
    if (readers_waiting_ != 0) WakeReaders();
  }
  void WakeReaders();

  // --- whoever runs the session
  uint64_t PushWork(const std::vector<Extent>& work, bool priority);
  void SetArmed();
  void SetPaused(bool paused);
  // The target is lost: copiers take no more jobs.
  void HaltCopiers();
  // The session is broken: nobody does.
  void HaltAll();
  void Stop();
  bool copiers_halted() const { return copiers_halted_; }

  uint32_t slots_used() const;
  uint64_t queued_work_bytes() const;
  // What the queues of blocks hold at this moment.
  uint64_t memory_bytes() const;

 private:
  bool TakeBest(Job* job);
  bool NoWorkLeft();
  void WakeForDrain();
  template <typename InSlot, typename Hurry>
  Found Await(uint64_t block, std::vector<uint64_t>* waiting, const std::function<bool()>& settled,
              InSlot in_slot, Hurry hurry);
  void Urge(uint64_t block);
  void AskFor(BlockRun run);
  bool IsAskedFor(uint64_t block) const;
  bool TakeAskedFor(BlockRun* run);
  bool TakeSweep(Job* job);

  const __u64* const bitmap_;
  const Tier2Set* const tiers_;
  const CopyCounters* const counters_;
  const uint64_t max_run_blocks_;

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable copiers_, spiller_, readers_;
  WorkQueue work_;
  FixedQueue<CapturedBlock> captured_;  // oldest first
  SpillQueue spilled_;                  // 16 bytes a block in tier 2
  bool leaving_next_ = false;           // blocks that have to leave tier 2 take turns with slots
  std::deque<Job> urgent_;              // taken out of captured_ and spilled_: a reader waits for them
  std::vector<uint64_t> awaited_;       // by readers, one each; not in a slot, nor spilled when they came
  std::vector<uint64_t> asked_for_;     // by readers of a clone, one each
  std::deque<BlockRun> asked_runs_;     // of them, pending when they came
  bool asked_next_ = true;              // they take turns with slots
  std::deque<uint64_t> wanted_;
  std::unordered_set<uint64_t> wanted_set_;
  std::vector<bool> slot_is_ours_;
  uint32_t slots_used_ = 0;
  const uint32_t watermark_low_;
  uint32_t copiers_asleep_ = 0;
  uint32_t sweeping_ = 0;  // runs taken and not done
  bool armed_ = false;
  bool paused_ = false;
  bool stopped_ = false;
  bool all_halted_ = false;
  std::atomic<bool> copiers_halted_{false};
  std::atomic<uint32_t> readers_waiting_{0};  // written under mutex_
};

}  // namespace snapbak
