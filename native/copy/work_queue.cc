// SPDX-License-Identifier: MIT
// What the sweep was told to copy, in order, as runs of blocks.
#include "work_queue.h"

#include <algorithm>

namespace snapbak {
namespace {

constexpr uint64_t kLowBytes = 64ull << 20;
// Blocks looked at in one Take(): 64 KiB of bitmap, some microseconds.
constexpr uint64_t kSearchBlocks = 512 * 1024;

}  // namespace

BlockRun BlocksOf(const Extent& extent, uint32_t block_size, uint64_t nr_blocks) {
  const uint64_t first = extent.offset / block_size;
  if (extent.length == 0 || first >= nr_blocks) return {0, 0};
  const uint64_t before = extent.offset % block_size;
  // offset + length may wrap: beyond the end of any device the exact length does not matter
  const uint64_t length = std::min(extent.length, uint64_t{1} << 63);
  const uint64_t touched = (before + length + block_size - 1) / block_size;
  return {first, std::min(touched, nr_blocks - first)};
}

uint64_t WorkQueue::Push(const std::vector<Extent>& work, bool priority) {
  auto& queue = priority ? priority_ : normal_;
  uint64_t pushed = 0;
  uint64_t pending = 0;
  for (const Extent& extent : work) {
    const BlockRun run = BlocksOf(extent, block_size_, nr_blocks_);
    if (run.count == 0) continue;
    queue.push_back(run);
    queued_blocks_ += run.count;
    pushed += run.count;
    pending += snapbak_bitmap_count(bitmap_, run.first, run.count);
  }
  if (pushed == 0) return 0;
  low_bytes_ = std::min(kLowBytes, queued_bytes() / 4);
  low_edge_ = true;
  empty_edge_ = true;
  return pending * block_size_;
}

WorkQueue::Taken WorkQueue::Take(uint64_t max_blocks, BlockRun* run) {
  uint64_t budget = kSearchBlocks;
  while (queued_blocks_ > 0) {
    auto& queue = priority_.empty() ? normal_ : priority_;
    BlockRun& front = queue.front();
    const uint64_t looked_at = std::min(front.count, budget);
    const uint64_t end = front.first + looked_at;
    const uint64_t found = snapbak_bitmap_next_set(bitmap_, front.first, end);
    uint64_t after = end;
    if (found < end) {
      // the run may go on beyond what was searched, not beyond what was asked for
      const uint64_t limit = std::min(front.first + front.count, found + max_blocks);
      after = snapbak_bitmap_next_clear(bitmap_, found, limit);
    }
    // what a driver cleared since the search leaves nothing to read
    *run = {found, after > found ? after - found : 0};
    const uint64_t gone = std::max(after, found) - front.first;
    queued_blocks_ -= gone;
    front.first += gone;
    front.count -= gone;
    if (front.count == 0) queue.pop_front();
    if (run->count > 0 && found < end) return Taken::kRun;
    budget -= std::min(budget, std::max<uint64_t>(gone, 1));
    if (budget == 0 && queued_blocks_ > 0) return Taken::kLater;
  }
  return Taken::kNone;
}

bool WorkQueue::TakeLowEdge() {
  if (!low_edge_ || queued_bytes() >= std::max<uint64_t>(low_bytes_, 1)) return false;
  low_edge_ = false;
  return true;
}

bool WorkQueue::TakeEmptyEdge() {
  if (!empty_edge_ || !empty()) return false;
  empty_edge_ = false;
  low_edge_ = false;
  return true;
}

}  // namespace snapbak
