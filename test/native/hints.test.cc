// SPDX-License-Identifier: MIT
// The hint ring: bounded, later hints win, and never half a hint.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "kernel-module/core/snapbak_hints.h"
#include "native/copy/hint_box.h"

namespace snapbak {
namespace {

class HintsTest : public testing::Test {
 protected:
  void Put(uint64_t offset) {
    const snapbak_extent hint = {offset, 1};
    snapbak_hints_put(shm_.get(), &driver_, &hint);
  }

  std::vector<uint64_t> Take() {
    snapbak_extent out[SNAPBAK_NR_HINTS];
    const uint32_t n = snapbak_hints_take(shm_.get(), &library_, out);
    std::vector<uint64_t> offsets;
    for (uint32_t i = 0; i < n; i++) offsets.push_back(out[i].offset);
    return offsets;
  }

  void BeginAt(uint32_t position) {
    driver_ = library_ = position;
    shm_->hint_head.value = shm_->hint_tail.value = position;
  }

  std::unique_ptr<snapbak_shm> shm_ = std::make_unique<snapbak_shm>();
  uint32_t driver_ = 0, library_ = 0;
};

TEST_F(HintsTest, ComeInTheirOrder) {
  EXPECT_FALSE(snapbak_hints_ready(shm_.get(), library_));
  EXPECT_TRUE(Take().empty());
  Put(7);
  Put(8);
  EXPECT_TRUE(snapbak_hints_ready(shm_.get(), library_));
  EXPECT_EQ((std::vector<uint64_t>{7, 8}), Take());
  EXPECT_FALSE(snapbak_hints_ready(shm_.get(), library_));
  EXPECT_EQ(2u, shm_->hint_tail.value);
}

TEST_F(HintsTest, TheOldestGiveWay) {
  BeginAt(~0u - 10);  // and positions wrap
  for (uint64_t i = 0; i < 200; i++) Put(i);
  const std::vector<uint64_t> taken = Take();
  // the place behind the newest may be written to at any moment
  ASSERT_EQ(SNAPBAK_NR_HINTS - 1u, taken.size());
  for (size_t i = 0; i < taken.size(); i++) EXPECT_EQ(200 - taken.size() + i, taken[i]);
  EXPECT_TRUE(Take().empty());
}

TEST_F(HintsTest, OneLessThanTheRingHoldsIsTakenWhole) {
  for (uint64_t i = 0; i < SNAPBAK_NR_HINTS - 1; i++) Put(i);
  EXPECT_EQ(SNAPBAK_NR_HINTS - 1u, Take().size());
}

TEST_F(HintsTest, AnyPositionIsBorne) {
  for (const uint32_t head : {1u, 63u, 64u, 65u, 1u << 31, ~0u}) {
    shm_->hint_head.value = head;
    library_ = 0;
    EXPECT_LE(Take().size(), static_cast<size_t>(SNAPBAK_NR_HINTS));
    EXPECT_EQ(head, library_);
  }
}

TEST_F(HintsTest, AreNeverTakenHalf) {
  constexpr uint64_t kHints = 200000;
  std::atomic<bool> done{false};
  std::thread driver([&] {
    for (uint64_t i = 1; i <= kHints; i++) {
      const snapbak_extent hint = {i, ~i};
      snapbak_hints_put(shm_.get(), &driver_, &hint);
    }
    done = true;
  });
  uint64_t last = 0, taken = 0;
  bool ended = false;
  while (!ended) {
    ended = done;
    snapbak_extent out[SNAPBAK_NR_HINTS];
    const uint32_t n = snapbak_hints_take(shm_.get(), &library_, out);
    for (uint32_t i = 0; i < n; i++) {
      EXPECT_EQ(~out[i].offset, out[i].length) << "half of one hint, half of another";
      EXPECT_GT(out[i].offset, last) << "an older one after a newer one";
      last = out[i].offset;
    }
    taken += n;
  }
  driver.join();
  EXPECT_EQ(kHints, last) << "the newest is never lost";
  EXPECT_GT(taken, 0u);
}

TEST(HintBox, KeepsTheNewestAndTellsOnce) {
  HintBox box(1 << 20);
  std::vector<snapbak_extent> hints;
  for (uint64_t i = 0; i < 1000; i++) hints.push_back({i, 1});
  EXPECT_TRUE(box.Put(hints.data(), 600));
  EXPECT_FALSE(box.Put(hints.data() + 600, 400)) << "it was told already";
  const std::vector<Extent> taken = box.Take();
  ASSERT_EQ(HintBox::kMost, taken.size());
  EXPECT_EQ(1000 - HintBox::kMost, taken.front().offset);
  EXPECT_EQ(999u, taken.back().offset);
  EXPECT_TRUE(box.Take().empty());
  EXPECT_TRUE(box.Put(hints.data(), 1)) << "told again, once they were taken";
}

TEST(HintBox, LeavesOutWhatDoesNotLieInside) {
  HintBox box(1000);
  const snapbak_extent rubbish[] = {{0, 0},         {1000, 1},  {999, 2}, {~0ull, 1},
                                    {~0ull, ~0ull}, {1, ~0ull}, {0, 1001}};
  EXPECT_FALSE(box.Put(rubbish, sizeof(rubbish) / sizeof(*rubbish)));
  EXPECT_TRUE(box.Take().empty());
  const snapbak_extent good[] = {{0, 1000}, {999, 1}};
  EXPECT_TRUE(box.Put(good, 2));
  EXPECT_EQ(2u, box.Take().size());
}

}  // namespace
}  // namespace snapbak
