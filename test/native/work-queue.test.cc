// SPDX-License-Identifier: MIT
// The sweep's queue: what it says when nothing of it is pending any more.
#include <gtest/gtest.h>

#include <vector>

#include "native/copy/work_queue.h"

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kSearched = 512 * 1024;  // blocks looked at in one Take()

// Who was told "later" of an empty queue would wait for what nobody brings.
TEST(WorkQueue, SaysLaterOnlyWhileThereIsMore) {
  const uint64_t nr_blocks = 2 * kSearched;
  const std::vector<__u64> bitmap(nr_blocks / 64);
  WorkQueue queue(bitmap.data(), nr_blocks, kBlock);
  queue.Push({{0, nr_blocks * kBlock}}, false);
  BlockRun run{};
  EXPECT_EQ(WorkQueue::Taken::kLater, queue.Take(16, &run));
  EXPECT_FALSE(queue.empty());
  EXPECT_EQ(WorkQueue::Taken::kNone, queue.Take(16, &run));
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace snapbak
