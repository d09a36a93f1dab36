// SPDX-License-Identifier: MIT
// What copiers and spiller do next.
#include "job_queue.h"

#include <algorithm>
#include <utility>

namespace snapbak {
namespace {

Job Drain(const CapturedBlock& captured) {
  Job job;
  job.kind = Job::Kind::kCaptured;
  job.captured = captured;
  return job;
}

Job Drain(const SpilledBlock& spilled) {
  Job job;
  job.kind = Job::Kind::kSpilled;
  job.spilled = spilled;
  return job;
}

}  // namespace

JobQueue::JobQueue(const __u64* bitmap, uint64_t nr_blocks, uint32_t block_size, uint32_t nr_slots,
                   const Tier2Set* tiers, const CopyCounters* counters, uint64_t max_run_blocks,
                   uint32_t watermark_low)
    : bitmap_(bitmap),
      tiers_(tiers),
      counters_(counters),
      max_run_blocks_(max_run_blocks),
      work_(bitmap, nr_blocks, block_size),
      captured_(nr_slots),
      spilled_(tiers),
      slot_is_ours_(nr_slots),
      watermark_low_(watermark_low) {}

bool JobQueue::AddEvents(const std::vector<CapturedBlock>& captured, const std::vector<uint64_t>& wanted) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < captured.size(); i++) {
    if (slot_is_ours_[captured[i].slot]) {
      while (i-- > 0) slot_is_ours_[captured[i].slot] = false;
      return false;
    }
    slot_is_ours_[captured[i].slot] = true;
  }
  for (const CapturedBlock& block : captured) {
    if (IsAskedFor(block.block)) {
      urgent_.push_back(Drain(block));
    } else {
      captured_.PushBack(block);
    }
  }
  slots_used_ += static_cast<uint32_t>(captured.size());
  for (uint64_t block : wanted) {
    if (wanted_set_.insert(block).second) wanted_.push_back(block);
  }
  if (captured.size() + wanted.size() > 1) {
    copiers_.notify_all();
  } else {
    copiers_.notify_one();
  }
  spiller_.notify_one();
  readers_.notify_all();
  return true;
}

bool JobQueue::Take(Job* job) {
  std::unique_lock lock(mutex_);
  if (job->kind == Job::Kind::kSweep) sweeping_--;
  *job = Job{};
  for (;;) {
    if (stopped_) return false;
    if (!copiers_halted_) {
      job->need_work = NoWorkLeft();
      const bool found = TakeBest(job);
      // it may have found that nothing of what was queued is pending any more
      job->need_work = job->need_work || NoWorkLeft();
      if (found || job->need_work) {
        // one idle copier less: what it leaves behind may be the spiller's now
        if (!captured_.empty()) spiller_.notify_one();
        return true;
      }
      if (!work_.empty() && armed_ && !paused_) {
        // a long search: let the pump in between
        lock.unlock();
        lock.lock();
        continue;
      }
    }
    copiers_asleep_++;
    copiers_.wait(lock);
    copiers_asleep_--;
  }
}

bool JobQueue::TakeBest(Job* job) {
  // 1. a write is held: nothing helps it but this block, or a slot
  if (armed_ && !wanted_.empty()) {
    job->kind = Job::Kind::kWanted;
    job->wanted = wanted_.front();
    wanted_.pop_front();
    wanted_set_.erase(job->wanted);
    return true;
  }
  // 2. somebody waits for the start instant's content of a block
  if (!urgent_.empty()) {
    const bool need_work = job->need_work;
    *job = urgent_.front();
    job->need_work = need_work;
    urgent_.pop_front();
    return true;
  }
  // 3. room in the container, while it is above its low marks
  const bool slots_low = slots_used_ <= watermark_low_;
  const bool places_low = tiers_ == nullptr || spilled_.size() <= tiers_->total() / 2;
  const bool slot_waits = !captured_.empty() && !slots_low;
  if (armed_ && (asked_next_ || !slot_waits) && TakeAskedFor(&job->run)) {
    asked_next_ = false;
    return TakeSweep(job);
  }
  asked_next_ = true;
  if ((leaving_next_ || !slot_waits) && spilled_.TakeLeaving(&job->spilled)) {
    job->kind = Job::Kind::kSpilled;
    leaving_next_ = false;
    return true;
  }
  if (slot_waits) {
    job->kind = Job::Kind::kCaptured;
    job->captured = captured_.PopFront();
    leaving_next_ = true;
    return true;
  }
  if (!places_low && spilled_.Take(&job->spilled)) {
    job->kind = Job::Kind::kSpilled;
    return true;
  }
  // 4. the sweep: each block that it claims is one that no write has to wait for
  if (armed_ && !paused_) {
    switch (work_.Take(max_run_blocks_, &job->run)) {
      case WorkQueue::Taken::kRun:
        job->need_work = work_.TakeLowEdge() || job->need_work;
        return TakeSweep(job);
      case WorkQueue::Taken::kLater:
        return false;
      case WorkQueue::Taken::kNone:
        break;
    }
  }
  // 5. whatever is left
  if (!captured_.empty()) {
    job->kind = Job::Kind::kCaptured;
    job->captured = captured_.PopFront();
    return true;
  }
  if (spilled_.Take(&job->spilled)) {
    job->kind = Job::Kind::kSpilled;
    return true;
  }
  return false;
}

bool JobQueue::TakeSweep(Job* job) {
  job->kind = Job::Kind::kSweep;
  sweeping_++;
  return true;
}

// The queue ran dry, nobody is about to claim the rest, and there is a rest.
bool JobQueue::NoWorkLeft() {
  return armed_ && sweeping_ == 0 && work_.empty() && counters_->safe < counters_->listed &&
         work_.TakeEmptyEdge();
}

uint32_t JobQueue::SlotReturned(uint32_t slot) {
  std::lock_guard lock(mutex_);
  slot_is_ours_[slot] = false;
  return --slots_used_;
}

void JobQueue::PlaceFreed() {
  // the lock: a spiller between its look at tier 2 and its sleep would miss it
  std::lock_guard lock(mutex_);
  spiller_.notify_one();
}

void JobQueue::PutBack(const CapturedBlock& captured) {
  std::lock_guard lock(mutex_);
  // Asked for meanwhile: nobody looks here again. Without copiers only the spiller is left to take it.
  if (IsAskedFor(captured.block) && !copiers_halted_) {
    urgent_.push_back(Drain(captured));
  } else {
    captured_.PushFront(captured);
  }
  WakeForDrain();
  readers_.notify_all();
}

void JobQueue::PutBack(const SpilledBlock& spilled) {
  std::lock_guard lock(mutex_);
  spilled_.PutBack(spilled);
  WakeForDrain();
}

void JobQueue::WakeForDrain() {
  copiers_.notify_one();
  spiller_.notify_one();
}

bool JobQueue::TakeForSpill(CapturedBlock* captured) {
  std::unique_lock lock(mutex_);
  spiller_.wait(lock, [this] {
    if (stopped_ || all_halted_) return true;
    // what idle copiers are about to take goes to the target straight away
    const size_t taken_care_of = copiers_halted_ ? 0 : copiers_asleep_;
    return captured_.size() > taken_care_of && slots_used_ > watermark_low_ && tiers_->HasRoom();
  });
  if (stopped_ || all_halted_) return false;
  *captured = captured_.PopFront();
  return true;
}

void JobQueue::AddSpilled(const SpilledBlock& spilled) {
  std::lock_guard lock(mutex_);
  if (std::find(awaited_.begin(), awaited_.end(), spilled.block) != awaited_.end() ||
      IsAskedFor(spilled.block)) {
    urgent_.push_back(Drain(spilled));
  } else {
    spilled_.Push(spilled);
  }
  copiers_.notify_one();
}

void JobQueue::TierChanged(uint32_t tier) {
  std::lock_guard lock(mutex_);
  spilled_.Resort(tier);
  copiers_.notify_all();
  spiller_.notify_one();
}

JobQueue::Found JobQueue::AwaitBlock(uint64_t block, const std::function<bool()>& settled,
                                     const std::function<void(uint32_t)>& copy) {
  const auto in_slot = [&] {
    const CapturedBlock* captured =
        captured_.Find([block](const CapturedBlock& waits) { return waits.block == block; });
    if (captured != nullptr) copy(captured->slot);
    return captured != nullptr;
  };
  return Await(block, &awaited_, settled, in_slot, [&] { Urge(block); });
}

JobQueue::Found JobQueue::AwaitDemand(BlockRun run, const std::function<bool()>& settled) {
  return Await(
      run.first, &asked_for_, settled, [] { return false; }, [&] { AskFor(run); });
}

// Urges once, and is in `waiting` as long as it may have an effect.
template <typename InSlot, typename Hurry>
JobQueue::Found JobQueue::Await(uint64_t block, std::vector<uint64_t>* waiting,
                                const std::function<bool()>& settled, InSlot in_slot, Hurry hurry) {
  std::unique_lock lock(mutex_);
  // Seen by whoever settles a block after this look at it; see WakeReadersIfAny().
  readers_waiting_++;
  snapbak_full_fence();
  bool urged = false;
  Found found;
  for (;; readers_.wait(lock)) {
    found = Found::kSettled;
    if (settled()) break;
    found = Found::kOver;
    if (stopped_ || copiers_halted_) break;
    found = Found::kInSlot;
    if (in_slot()) break;
    if (std::exchange(urged, true)) continue;
    waiting->push_back(block);
    hurry();
  }
  if (urged) waiting->erase(std::find(waiting->begin(), waiting->end(), block));
  readers_waiting_--;
  return found;
}

// A block that comes to a second tier from now on is urgent as one that is there.
void JobQueue::Urge(uint64_t block) {
  SpilledBlock spilled;
  if (!spilled_.TakeBlock(block, &spilled)) return;
  urgent_.push_back(Drain(spilled));
  copiers_.notify_one();
}

// Wherever it is now. If it is under way from one place to the next, it is urgent when it gets there.
void JobQueue::AskFor(BlockRun run) {
  const uint64_t most = std::min(run.count, max_run_blocks_);
  const uint64_t pending = snapbak_bitmap_next_clear(bitmap_, run.first, run.first + most);
  CapturedBlock captured;
  SpilledBlock spilled;
  if (pending > run.first) {
    asked_runs_.push_back({run.first, pending - run.first});
  } else if (captured_.Take([&](const CapturedBlock& waits) { return waits.block == run.first; },
                            &captured)) {
    urgent_.push_back(Drain(captured));
  } else if (spilled_.TakeBlock(run.first, &spilled)) {
    urgent_.push_back(Drain(spilled));
  }
  copiers_.notify_one();
}

bool JobQueue::IsAskedFor(uint64_t block) const {
  return std::find(asked_for_.begin(), asked_for_.end(), block) != asked_for_.end();
}

// What of it is pending still: two may have asked for the same.
bool JobQueue::TakeAskedFor(BlockRun* run) {
  while (!asked_runs_.empty()) {
    const BlockRun asked = asked_runs_.front();
    asked_runs_.pop_front();
    const uint64_t end = asked.first + asked.count;
    const uint64_t first = snapbak_bitmap_next_set(bitmap_, asked.first, end);
    if (first == end) continue;
    *run = {first, std::max<uint64_t>(snapbak_bitmap_next_clear(bitmap_, first, end), first + 1) - first};
    return true;
  }
  return false;
}

void JobQueue::WakeReaders() {
  // the lock: a reader between its look and its sleep would miss it
  std::lock_guard lock(mutex_);
  readers_.notify_all();
}

uint64_t JobQueue::PushWork(const std::vector<Extent>& work, bool priority) {
  std::lock_guard lock(mutex_);
  const uint64_t pending = work_.Push(work, priority);
  copiers_.notify_all();
  return pending;
}

void JobQueue::SetArmed() {
  std::lock_guard lock(mutex_);
  armed_ = true;
  copiers_.notify_all();
}

void JobQueue::SetPaused(bool paused) {
  std::lock_guard lock(mutex_);
  paused_ = paused;
  copiers_.notify_all();
}

void JobQueue::HaltCopiers() {
  std::lock_guard lock(mutex_);
  copiers_halted_ = true;
  spiller_.notify_one();
  readers_.notify_all();
}

void JobQueue::HaltAll() {
  std::lock_guard lock(mutex_);
  copiers_halted_ = true;
  all_halted_ = true;
  spiller_.notify_one();
  readers_.notify_all();
}

void JobQueue::Stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  copiers_.notify_all();
  spiller_.notify_all();
  readers_.notify_all();
}

uint32_t JobQueue::slots_used() const {
  std::lock_guard lock(mutex_);
  return slots_used_;
}

uint64_t JobQueue::queued_work_bytes() const {
  std::lock_guard lock(mutex_);
  return work_.queued_bytes();
}

uint64_t JobQueue::memory_bytes() const {
  std::lock_guard lock(mutex_);
  return slot_is_ours_.size() * sizeof(CapturedBlock) + slot_is_ours_.size() / 8 + spilled_.memory_bytes() +
         wanted_.size() * 2 * sizeof(uint64_t);
}

}  // namespace snapbak
