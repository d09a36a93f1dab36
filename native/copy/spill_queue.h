// SPDX-License-Identifier: MIT
// The blocks that lie in the second tiers, and which of them is drained next:
//   1. those that have to leave: of a lost tier, which could be read now and
//      perhaps not for long; or beyond the new end of one that shrinks, which
//      somebody waits for
//   2. those of the most preferred tier, where room serves the next spill best;
//      within a tier the oldest, so that it is read as it was written, in order
// Not thread-safe: it lies under the lock of the job queue.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "tier2_set.h"

namespace snapbak {

struct SpilledBlock {
  uint64_t block;
  TierPlace where;
  uint32_t crc;  // of the block's bytes, from before they left memory
};

class SpillQueue {
 public:
  // `tiers` may be null: no block ever comes then.
  explicit SpillQueue(const Tier2Set* tiers) : tiers_(tiers), queues_(tiers == nullptr ? 0 : tiers->size()) {}

  void Push(const SpilledBlock& spilled);
  // Taken, but not drained.
  void PutBack(const SpilledBlock& spilled);
  // False: there is none.
  bool TakeLeaving(SpilledBlock* spilled);
  bool Take(SpilledBlock* spilled);
  // The one of this number, out of turn. Looks at each block that is here, as Resort() does.
  bool TakeBlock(uint64_t block, SpilledBlock* spilled);

  // The tier was lost, or its end was moved, and so other blocks have to leave.
  // Looks at each of its blocks, a few nanoseconds for one.
  void Resort(uint32_t tier) noexcept;

  uint64_t size() const { return size_; }
  uint64_t memory_bytes() const { return size_ * sizeof(Kept); }

 private:
  struct Kept {
    uint64_t block;
    uint32_t place;
    uint32_t crc;
  };
  // Those that have to leave, then the others; each part from its oldest on, but that a block which comes
  // late into a part is put where it costs nothing. One list, so that a new division of it needs no memory.
  struct Queue {
    std::deque<Kept> blocks;
    uint64_t leaving = 0;
  };

  bool MustLeave(const SpilledBlock& spilled) const {
    return tiers_->at(spilled.where.tier).Leaving(spilled.where.place);
  }
  void TakeFront(uint32_t tier, SpilledBlock* spilled);

  const Tier2Set* const tiers_;
  std::vector<Queue> queues_;  // one a tier
  uint64_t size_ = 0;
  uint64_t leaving_ = 0;
};

}  // namespace snapbak
