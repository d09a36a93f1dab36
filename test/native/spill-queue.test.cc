// SPDX-License-Identifier: MIT
// Which tier a block goes to, and which block is drained first.
#include <algorithm>
#include <cstdlib>
#include <new>

#include "copy-rig.h"
#include "native/copy/spill_queue.h"

namespace {
thread_local bool no_memory = false;
}  // namespace

// Of this test program: fails where a test says that there is no memory. Not inlined: GCC would take
// malloc here and delete there for a mismatch.
[[gnu::noinline]] void* operator new(size_t size) {
  void* memory = no_memory ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return no_memory ? nullptr : std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 4096;

class TiersTest : public testing::Test {
 protected:
  TiersTest() {
    std::vector<std::unique_ptr<Tier2>> tiers;
    for (const TestFile& file : files_) {
      tiers.push_back(
          std::make_unique<Tier2>(file.Duplicate(), false, std::vector<Extent>{{0, 4 * kBlock}}, kBlock));
    }
    tiers_ = std::make_unique<Tier2Set>(std::move(tiers));
    queue_ = std::make_unique<SpillQueue>(tiers_.get());
  }

  // The tier that a block went to; its number and content are the same.
  uint32_t Put(uint64_t block) {
    SpilledBlock spilled{block, {}, 0};
    EXPECT_EQ(0, tiers_->Put(RandomBytes(kBlock, static_cast<uint32_t>(block)).data(), &spilled.where));
    queue_->Push(spilled);
    return spilled.where.tier;
  }
  // All that are left, in the order in which they are drained.
  std::vector<uint64_t> Drain(size_t most = SIZE_MAX) {
    std::vector<uint64_t> blocks;
    SpilledBlock spilled;
    while (blocks.size() < most && queue_->Take(&spilled)) {
      std::vector<uint8_t> bytes(kBlock);
      EXPECT_EQ(0, tiers_->Get(spilled.where, bytes.data()));
      EXPECT_EQ(RandomBytes(kBlock, static_cast<uint32_t>(spilled.block)), bytes);
      tiers_->Free(spilled.where);
      blocks.push_back(spilled.block);
    }
    return blocks;
  }

  TestFile files_[3] = {TestFile(0), TestFile(0), TestFile(0)};
  std::unique_ptr<Tier2Set> tiers_;
  std::unique_ptr<SpillQueue> queue_;
};

TEST_F(TiersTest, AreFilledInOrderOfPreference) {
  for (uint64_t block = 0; block < 12; block++) EXPECT_EQ(block / 4, Put(block));
  EXPECT_FALSE(tiers_->HasRoom());
  EXPECT_EQ(12u, tiers_->used());
  TierPlace where;
  EXPECT_EQ(-ENOSPC, tiers_->Put(RandomBytes(kBlock, 0).data(), &where));
}

TEST_F(TiersTest, AreDrainedInThatOrderTooAndEachFromItsOldestOn) {
  for (uint64_t block = 0; block < 10; block++) Put(block);
  EXPECT_EQ((std::vector<uint64_t>{0, 1}), Drain(2));
  EXPECT_EQ(0u, Put(20));  // there is room in the best again
  EXPECT_EQ((std::vector<uint64_t>{2, 3, 20, 4, 5, 6, 7, 8, 9}), Drain());
  EXPECT_EQ(0u, tiers_->used());
  EXPECT_EQ(0u, queue_->size());
}

TEST_F(TiersTest, ALostOneIsDrainedFirstAndTakesNoMore) {
  for (uint64_t block = 0; block < 6; block++) Put(block);
  files_[1].RefuseWrites();
  TierPlace where;
  EXPECT_EQ(-EPERM, tiers_->Put(RandomBytes(kBlock, 9).data(), &where));
  EXPECT_EQ(1u, where.tier);
  EXPECT_TRUE(tiers_->at(1).GiveUp());
  EXPECT_FALSE(tiers_->at(1).GiveUp()) << "told once";
  queue_->Resort(1);
  EXPECT_EQ(2u, Put(7));
  EXPECT_EQ(8u, tiers_->total());
  EXPECT_EQ(5u, tiers_->used());
  EXPECT_EQ((std::vector<uint64_t>{4, 5, 0, 1, 2, 3, 7}), Drain());
  EXPECT_EQ(0u, tiers_->at(1).used());
}

TEST_F(TiersTest, WithAllLostThereIsNoRoom) {
  for (uint32_t i = 0; i < 3; i++) {
    EXPECT_TRUE(tiers_->HasRoom());
    files_[i].RefuseWrites();
    TierPlace where;
    EXPECT_EQ(-EPERM, tiers_->Put(RandomBytes(kBlock, 9).data(), &where));
    EXPECT_EQ(i, where.tier);
    tiers_->at(i).GiveUp();
  }
  EXPECT_FALSE(tiers_->HasRoom());
  EXPECT_EQ(0u, tiers_->total());
  TierPlace where;
  EXPECT_EQ(-ENOSPC, tiers_->Put(RandomBytes(kBlock, 9).data(), &where));
}

TEST_F(TiersTest, BlocksBeyondANewEndAreDrainedFirstUntilItIsTakenBack) {
  for (uint64_t block = 0; block < 8; block++) Put(block);
  int error = 1;
  tiers_->at(1).Resize(1, [&](int how) { error = how; });
  queue_->Resort(1);
  SpilledBlock spilled;
  ASSERT_TRUE(queue_->TakeLeaving(&spilled));
  EXPECT_EQ(5u, spilled.block);
  queue_->PutBack(spilled);
  EXPECT_EQ((std::vector<uint64_t>{5, 6}), Drain(2));
  tiers_->at(1).Resize(4, [](int) {});
  EXPECT_EQ(-ECANCELED, error);
  queue_->Resort(1);
  EXPECT_FALSE(queue_->TakeLeaving(&spilled));
  EXPECT_EQ((std::vector<uint64_t>{0, 1, 2, 3}), Drain(4));
  EXPECT_EQ((std::vector<uint64_t>{7, 4}), Drain());
}

TEST_F(TiersTest, AreDividedAnewWithoutMemory) {
  for (uint64_t block = 0; block < 8; block++) Put(block);
  tiers_->at(1).Resize(2, [](int) {});
  no_memory = true;
  queue_->Resort(1);
  no_memory = false;
  EXPECT_EQ((std::vector<uint64_t>{6, 7, 0, 1, 2, 3, 4, 5}), Drain());
}

TEST_F(TiersTest, ABlockThatStaysIsPutBackBehindThoseThatHaveToLeave) {
  for (uint64_t block = 0; block < 4; block++) Put(block);
  SpilledBlock first;
  ASSERT_TRUE(queue_->Take(&first));
  tiers_->at(0).Resize(2, [](int) {});
  queue_->Resort(0);
  queue_->PutBack(first);
  SpilledBlock spilled;
  for (int i = 0; i < 2; i++) {
    ASSERT_TRUE(queue_->TakeLeaving(&spilled));
    EXPECT_LE(2u, spilled.block);
  }
  EXPECT_FALSE(queue_->TakeLeaving(&spilled));
  EXPECT_EQ((std::vector<uint64_t>{0, 1}), Drain());
}

TEST_F(TiersTest, ABlockThatComesBeyondTheNewEndHasToLeave) {
  SpilledBlock late{3, {}, 0};
  for (uint64_t block = 0; block < 3; block++) Put(block);
  ASSERT_EQ(0, tiers_->Put(RandomBytes(kBlock, 3).data(), &late.where));
  tiers_->at(0).Resize(1, [](int) {});
  queue_->Resort(0);
  queue_->Push(late);
  EXPECT_EQ((std::vector<uint64_t>{1, 2, 3}), Drain(3));
  SpilledBlock spilled;
  EXPECT_FALSE(queue_->TakeLeaving(&spilled));
  EXPECT_EQ((std::vector<uint64_t>{0}), Drain());
}

TEST_F(TiersTest, GiveABlockThatIsWaitedForOutOfTurn) {
  for (uint64_t block = 0; block < 8; block++) Put(block);
  tiers_->at(0).Resize(2, [](int) {});
  queue_->Resort(0);  // 2 and 3 have to leave
  auto take = [this](uint64_t block) {
    SpilledBlock spilled;
    if (!queue_->TakeBlock(block, &spilled)) return false;
    EXPECT_EQ(block, spilled.block);
    std::vector<uint8_t> bytes(kBlock);
    EXPECT_EQ(0, tiers_->Get(spilled.where, bytes.data()));
    EXPECT_EQ(RandomBytes(kBlock, static_cast<uint32_t>(block)), bytes);
    tiers_->Free(spilled.where);
    return true;
  };
  EXPECT_FALSE(take(8));
  EXPECT_TRUE(take(5));
  EXPECT_FALSE(take(5));
  EXPECT_TRUE(take(2));  // one of those that have to leave: the other one still does, and first
  EXPECT_TRUE(take(7));  // the last of all
  EXPECT_EQ(5u, queue_->size());
  SpilledBlock spilled;
  ASSERT_TRUE(queue_->TakeLeaving(&spilled));
  EXPECT_EQ(3u, spilled.block);
  tiers_->Free(spilled.where);
  EXPECT_FALSE(queue_->TakeLeaving(&spilled));
  std::vector<uint64_t> rest = Drain();
  std::sort(rest.begin(), rest.end());
  EXPECT_EQ((std::vector<uint64_t>{0, 1, 4, 6}), rest);
  EXPECT_EQ(0u, queue_->size());
  EXPECT_EQ(0u, tiers_->used());
}

}  // namespace
}  // namespace snapbak
