// SPDX-License-Identifier: MIT
// A second device that gets every block of a backup as it is backed up.
#include "clone.h"

#include <errno.h>

#include <utility>

#include "copy_state.h"

namespace snapbak {

Clone::Clone(LowerDevice destination, uint64_t size, uint32_t block_size, bool fresh,
             std::function<void(int error)> on_lost)
    : LazyDevice(std::move(destination), size, block_size, fresh),
      on_lost_(std::move(on_lost)),
      total_(blocks_) {
  missing_ = blocks_;
}

// ---- the session ----------------------------------------------------------

int Clone::Attach(uint64_t size, uint32_t block_size, std::shared_ptr<ViewGate> gate) {
  if (size != size_ || block_size != block_size_ || destination_.size() < size_) return -EINVAL;
  gate_ = std::move(gate);
  return 0;
}

void Clone::Unlisted(uint64_t first, uint64_t count) {
  const uint64_t fresh = here_.Set(first, count);
  std::lock_guard<std::mutex> lock(mutex_);  // Stats() sees both or neither
  total_ -= fresh;
  missing_ -= fresh;
}

void Clone::Put(uint64_t first, uint64_t count, const uint8_t* data) {
  const uint64_t end = first + count;
  Run run;
  for (uint64_t at = first; ClaimArriving(&at, end, &run);) {
    const int error = Store(run, data == nullptr ? nullptr : data + (run.first - first) * block_size_);
    if (error == 0) NoteHere(run.first, run.count, here_.Set(run.first, run.count));
    Release(run.first);
    if (error != 0) return Lose(error);
  }
}

// The next run from `*at` on that is wanted here, claimed; false: there is none before `end`.
bool Clone::ClaimArriving(uint64_t* at, uint64_t end, Run* run) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (over_ != 0) return false;
  while (*at < end) {
    const uint64_t block = *at;
    const size_t claim = FindClaim(block);
    // A client says that a block is here without the lock. So two looks at it agree where the first has found
    // it here, or where nobody claims it.
    if (here_.Get(block)) {
      *at = block + here_.RunLength(block, end - block);
    } else if (claim < claims_.size()) {
      *at = std::min(end, claims_[claim].first + claims_[claim].count);
      MarkBad(block, *at - block);
    } else {
      *run = {block, Unclaimed(block, here_.RunLength(block, end - block))};
      claims_.push_back(*run);
      *at = block + run->count;
      return true;
    }
  }
  return false;
}

// With mutex_ held.
void Clone::MarkBad(uint64_t first, uint64_t count) { bad_blocks_ += bad_.Set(first, count); }

void Clone::Invalid(uint64_t block) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!here_.Get(block)) MarkBad(block, 1);
}

// ---- requests -------------------------------------------------------------

int Clone::Demand(uint64_t first, uint64_t max) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return over_ != 0 || FindClaim(first) == claims_.size(); });
    if (over_ != 0) return over_;
    if (here_.Get(first)) return 0;
    if (bad_.Get(first)) return -EIO;
  }
  if (gate_ == nullptr) return -ESHUTDOWN;
  const ViewGate::Visit visit(gate_.get());
  if (visit.state() == nullptr) return -ESHUTDOWN;
  bool counted = false;
  const auto settled = [&] {
    // under the queue's lock, as what follows: whoever sees the count and then that lock sees it asked for
    if (!std::exchange(counted, true)) ++demands_;
    return over_ != 0 || here_.Get(first) || bad_.Get(first);
  };
  const auto found = visit.state()->jobs.AwaitDemand({first, max}, settled);
  return found == JobQueue::Found::kSettled ? 0 : -ESHUTDOWN;
}

int Clone::Written(uint64_t first, uint64_t count) {
  const uint64_t fresh = here_.Set(first, count);
  written_ += fresh;
  NoteHere(first, count, fresh);
  WakeReaders();
  return 0;
}

int Clone::Discard(uint64_t offset, uint64_t length) {
  const auto discard = [&](uint64_t at, uint64_t n, uint64_t) { return destination_.Discard(at, n); };
  return Apply(offset, length, false, {discard, nullptr, false});
}

int Clone::Sync() {
  std::lock_guard<std::mutex> one(sync_mutex_);
  if (lost_ != 0) return -EIO;
  if (closed_) return -ESHUTDOWN;
  const int error = destination_.Flush();
  if (error != 0) Lose(error);
  return error;
}

// ---- the end --------------------------------------------------------------

void Clone::Shutdown() {
  LazyDevice::Shutdown();
  WakeReaders();
}

void Clone::WakeReaders() {
  if (gate_ == nullptr) return;
  snapbak_full_fence();  // what they look at before whether they wait
  const ViewGate::Visit visit(gate_.get());
  if (visit.state() != nullptr) visit.state()->jobs.WakeReadersIfAny();
}

void Clone::Lose(int error) {
  int whole = 0;
  if (!lost_.compare_exchange_strong(whole, error)) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (over_ == 0) over_ = -EIO;
    changed_.notify_all();
  }
  WakeReaders();
  on_lost_(error);
}

// The session that makes it has copied all of its list. Once it has, it always has.
bool Clone::IsCopied() const {
  if (gate_ == nullptr) return false;
  const ViewGate::Visit visit(gate_.get());
  return visit.state() == nullptr ? visit.finished() : visit.state()->IsComplete();
}

int Clone::Finish() {
  const bool copied = IsCopied();
  bool whole;
  {
    // a client that is writing a whole block, whose copy was dropped for it
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return over_ != 0 || claims_.empty(); });
    whole = over_ != 0 || missing_ == bad_blocks_;
  }
  // A block was lost on its way, by a fault of ours: nobody may take that for a clone.
  if (copied && !whole) Lose(-EIO);
  const int error = Sync();
  return error == 0 && lost_ != 0 ? -EIO : error;
}

int Clone::Close() {
  Shutdown();
  {
    // copy threads may be inside; none enters any more
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return claims_.empty(); });
  }
  // Else it was made durable by Finish(), or it is not whole, and there is nothing that anybody may want.
  const int error = changed_by_clients_ && lost_ == 0 ? Sync() : 0;
  std::lock_guard<std::mutex> one(sync_mutex_);
  if (std::exchange(closed_, true)) return 0;
  destination_ = LowerDevice();
  return error;
}

CloneStats Clone::Stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {total_, total_ - missing_, bad_blocks_, demands_, written_};
}

}  // namespace snapbak
