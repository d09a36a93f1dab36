// SPDX-License-Identifier: MIT
// The order in which the second tiers are drained.
#include "spill_queue.h"

#include <algorithm>
#include <utility>

namespace snapbak {

// The end of a tier may move at any time: who moves it calls Resort() afterwards, which looks again.
void SpillQueue::Push(const SpilledBlock& spilled) {
  Queue& queue = queues_[spilled.where.tier];
  queue.blocks.push_back({spilled.block, spilled.where.place, spilled.crc});
  size_++;
  if (!MustLeave(spilled)) return;
  // behind the others that have to leave: the first one that stays changes places with it
  std::swap(queue.blocks.back(), queue.blocks[queue.leaving]);
  queue.leaving++;
  leaving_++;
}

void SpillQueue::PutBack(const SpilledBlock& spilled) {
  Queue& queue = queues_[spilled.where.tier];
  queue.blocks.push_front({spilled.block, spilled.where.place, spilled.crc});
  size_++;
  if (MustLeave(spilled)) {
    queue.leaving++;
    leaving_++;
  } else {
    // before the others that stay: the last one that has to leave changes places with it
    std::swap(queue.blocks.front(), queue.blocks[queue.leaving]);
  }
}

bool SpillQueue::TakeLeaving(SpilledBlock* spilled) {
  if (leaving_ == 0) return false;
  const auto first =
      std::find_if(queues_.begin(), queues_.end(), [](const Queue& queue) { return queue.leaving > 0; });
  TakeFront(static_cast<uint32_t>(first - queues_.begin()), spilled);
  return true;
}

bool SpillQueue::Take(SpilledBlock* spilled) {
  if (TakeLeaving(spilled)) return true;
  const auto first =
      std::find_if(queues_.begin(), queues_.end(), [](const Queue& queue) { return !queue.blocks.empty(); });
  if (first == queues_.end()) return false;
  TakeFront(static_cast<uint32_t>(first - queues_.begin()), spilled);
  return true;
}

bool SpillQueue::TakeBlock(uint64_t block, SpilledBlock* spilled) {
  for (uint32_t tier = 0; tier < queues_.size(); tier++) {
    Queue& queue = queues_[tier];
    const auto found = std::find_if(queue.blocks.begin(), queue.blocks.end(),
                                    [block](const Kept& kept) { return kept.block == block; });
    if (found == queue.blocks.end()) continue;
    *spilled = {block, {tier, found->place}, found->crc};
    // whoever is last in its part takes its place, and the last of all the one that this leaves
    auto hole = found;
    if (found - queue.blocks.begin() < static_cast<std::ptrdiff_t>(queue.leaving)) {
      queue.leaving--;
      leaving_--;
      hole = queue.blocks.begin() + static_cast<std::ptrdiff_t>(queue.leaving);
      *found = *hole;
    }
    *hole = queue.blocks.back();
    queue.blocks.pop_back();
    size_--;
    return true;
  }
  return false;
}

void SpillQueue::TakeFront(uint32_t tier, SpilledBlock* spilled) {
  Queue& queue = queues_[tier];
  const Kept& kept = queue.blocks.front();
  *spilled = {kept.block, {tier, kept.place}, kept.crc};
  queue.blocks.pop_front();
  size_--;
  if (queue.leaving == 0) return;
  queue.leaving--;
  leaving_--;
}

// Without memory for it std::stable_partition is slower, and no less right.
void SpillQueue::Resort(uint32_t tier) noexcept {
  Queue& queue = queues_[tier];
  leaving_ -= queue.leaving;
  const auto staying = std::stable_partition(queue.blocks.begin(), queue.blocks.end(), [&](const Kept& kept) {
    return tiers_->at(tier).Leaving(kept.place);
  });
  queue.leaving = static_cast<uint64_t>(staying - queue.blocks.begin());
  leaving_ += queue.leaving;
}

}  // namespace snapbak
