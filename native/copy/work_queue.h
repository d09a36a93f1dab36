// SPDX-License-Identifier: MIT
// What the sweep was told to copy, in order, as runs of blocks. The scheduler
// pushes extents; copiers take runs that are still pending. Not thread-safe:
// JobQueue holds its lock around every call.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "copy_session.h"

namespace snapbak {

struct BlockRun {
  uint64_t first;
  uint64_t count;
};

// The blocks that an extent touches, cut at the end of the device.
BlockRun BlocksOf(const Extent& extent, uint32_t block_size, uint64_t nr_blocks);

class WorkQueue {
 public:
  WorkQueue(const __u64* bitmap, uint64_t nr_blocks, uint32_t block_size)
      : bitmap_(bitmap), nr_blocks_(nr_blocks), block_size_(block_size) {}

  uint64_t Push(const std::vector<Extent>& work, bool priority);

  // Cuts the next run of at most `max_blocks` pending blocks off the front. The
  // bitmap is searched for a bounded time only: kLater says that there may be
  // more, kNone that the queue is empty.
  enum class Taken { kRun, kLater, kNone };
  Taken Take(uint64_t max_blocks, BlockRun* run);

  bool empty() const { return queued_blocks_ == 0; }
  uint64_t queued_bytes() const { return queued_blocks_ * block_size_; }

  // Once for each Push of any work: the queue has sunk below a quarter of what
  // it held then, or below 64 MiB, whichever is less.
  bool TakeLowEdge();
  // Once for each Push of any work, and once before the first: it is empty.
  bool TakeEmptyEdge();

 private:
  const __u64* const bitmap_;
  const uint64_t nr_blocks_;
  const uint32_t block_size_;
  std::deque<BlockRun> priority_, normal_;
  uint64_t queued_blocks_ = 0;
  uint64_t low_bytes_ = 0;
  bool low_edge_ = false;
  bool empty_edge_ = true;
};

}  // namespace snapbak
