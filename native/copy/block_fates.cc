// SPDX-License-Identifier: MIT
// What became of each block.
#include "block_fates.h"

#include <algorithm>
#include <iterator>

#include "../../kernel-module/core/snapbak_bitmap.h"

namespace snapbak {
namespace {

__u64* Words(uint64_t* bitmap) { return reinterpret_cast<__u64*>(bitmap); }
const __u64* Words(const uint64_t* bitmap) { return reinterpret_cast<const __u64*>(bitmap); }

}  // namespace

int BlockFates::Allocate(uint64_t nr_blocks) {
  const int error = settled_memory_.Allocate(snapbak_bitmap_words(nr_blocks) * sizeof(uint64_t));
  if (error != 0) return error;
  nr_blocks_ = nr_blocks;
  settled_ = reinterpret_cast<uint64_t*>(settled_memory_.data());
  memory_bytes_ = settled_memory_.size();
  return 0;
}

int BlockFates::AllocateAbsent() {
  std::lock_guard lock(mutex_);
  if (absent_ != nullptr) return 0;
  const int error = absent_memory_.Allocate(settled_memory_.size());
  if (error != 0) return error;
  absent_ = reinterpret_cast<uint64_t*>(absent_memory_.data());
  memory_bytes_ += absent_memory_.size();
  return 0;
}

void BlockFates::SetDone(uint64_t first, uint64_t count) {
  snapbak_bitmap_set_range(Words(settled_), first, count);
}

// Absent first: a reader that finds the block settled has to see that, too.
void BlockFates::SetUnlisted(uint64_t first, uint64_t count) {
  snapbak_bitmap_set_range(Words(absent_.load()), first, count);
  snapbak_bitmap_set_range(Words(settled_), first, count);
}

void BlockFates::SetInvalid(uint64_t block) {
  {
    std::lock_guard lock(mutex_);
    uint64_t first = block, end = block + 1;
    auto next = invalid_.lower_bound(block);
    if (next != invalid_.end() && next->first == end) {
      end = next->second;
      next = invalid_.erase(next);
    }
    if (next != invalid_.begin() && std::prev(next)->second == block) first = std::prev(next)->first;
    invalid_[first] = end;
    any_invalid_ = true;
  }
  SetUnlisted(block, 1);
}

bool BlockFates::IsInvalid(uint64_t block) const {
  if (!any_invalid_) return false;
  std::lock_guard lock(mutex_);
  const auto behind = invalid_.upper_bound(block);
  return behind != invalid_.begin() && block < std::prev(behind)->second;
}

Fate BlockFates::Of(uint64_t block) const {
  if (snapbak_bitmap_test(Words(settled_), block) == 0) return Fate::kOpen;
  const uint64_t* absent = absent_;
  if (absent == nullptr || snapbak_bitmap_test(Words(absent), block) == 0) return Fate::kDone;
  return IsInvalid(block) ? Fate::kInvalid : Fate::kUnlisted;
}

uint64_t BlockFates::RunEnd(uint64_t first, uint64_t end) const {
  const Fate fate = Of(first);
  const uint64_t settled = snapbak_bitmap_next_clear(Words(settled_), first, end);
  uint64_t run_end = first + 1;
  while (run_end < settled && Of(run_end) == fate) run_end++;
  return run_end;
}

}  // namespace snapbak
