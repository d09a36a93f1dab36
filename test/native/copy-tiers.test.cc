// SPDX-License-Identifier: MIT
// A copy session with several second tiers: losing them, reading them back, and
// moving their ends while it runs.
#include "copy-session-fixture.h"

namespace snapbak {
namespace {

class CopyTiersTest : public CopySessionTest {
 protected:
  CopyTiersTest() { options_.copy_threads = 1; }

  // The target shut with the only copier inside it, block 0 in its hands: swept, because a capture might go
  // to the spiller, if the copier is not yet there.
  void StartStuck() {
    MakeAndStart();
    target_.Shut();
    session_->PushWork({{0, kBlock}}, false);
    target_.AwaitInside(1);
    for (uint32_t slot = 1; slot < 8; slot++) free_.push_back(slot);
  }
  void Capture(uint64_t block) {
    Eventually([&] {
      for (uint32_t slot : driver_.TakeFree()) free_.push_back(slot);
      return !free_.empty();
    });
    driver_.Capture(block, free_.back(), Origin(block));
    free_.pop_back();
  }
  uint32_t Used(uint32_t tier) { return session_->Stats().tiers[tier].used; }
  // They are written, not only placed.
  void AwaitSpilled(uint64_t blocks) {
    Eventually([&] { return session_->Stats().spilled_blocks == blocks; });
  }
  void Finish() {
    target_.Open();
    session_->PushWork({{0, kSize}}, false);
    log_.Await(NoticeKind::kComplete);
    ExpectAllCopied();
  }
  Tier2::Resized Note() {
    return [this](int error) { resized_ = error; };
  }

  TestFile other_file_{0};
  std::vector<uint32_t> free_;
  std::atomic<int> resized_{1};  // not yet
};

TEST_F(CopyTiersTest, LosesTheFirstAndGoesOnWithTheNext) {
  UseTiers({{&tier2_file_, 64}, {&other_file_, 64}});
  StartStuck();
  for (uint64_t block = 1; block < 11; block++) Capture(block);
  AwaitSpilled(10);
  tier2_file_.RefuseWrites();
  for (uint64_t block = 11; block < 31; block++) Capture(block);
  const Notice lost = log_.Await(NoticeKind::kTier2Lost);
  EXPECT_EQ(-EPERM, lost.error);
  EXPECT_EQ(0u, lost.value);
  Eventually([&] { return Used(1) == 20; });
  const CopyStats stats = session_->Stats();
  EXPECT_EQ(10u, stats.tiers[0].used);
  EXPECT_TRUE(stats.tiers[0].lost);
  EXPECT_FALSE(stats.tiers[1].lost);
  EXPECT_EQ(64u, stats.tier2_total);
  EXPECT_EQ(20u, stats.tier2_used);
  Finish();  // with the blocks of the lost one
  EXPECT_EQ(1u, log_.Count(NoticeKind::kTier2Lost));
  EXPECT_EQ(0u, log_.Count(NoticeKind::kTier2Data));
}

TEST_F(CopyTiersTest, LosesOneAfterTheOtherAndGoesOnWithSlotsAlone) {
  UseTiers({{&tier2_file_, 64}, {&other_file_, 64}});
  StartStuck();
  for (uint64_t block = 1; block < 6; block++) Capture(block);
  AwaitSpilled(5);
  tier2_file_.RefuseWrites();
  Capture(6);
  AwaitSpilled(6);
  other_file_.RefuseWrites();
  Capture(7);
  EXPECT_EQ(1u, log_.Await(NoticeKind::kTier2Lost, 2).value);
  EXPECT_EQ(1u, session_->Stats().slots_used);  // block 7 stays where it was
  EXPECT_EQ(0u, session_->Stats().tier2_total);
  Finish();
  EXPECT_EQ(2u, log_.Count(NoticeKind::kTier2Lost));
}

TEST_F(CopyTiersTest, TriesAReadThatFailedAgain) {
  options_.tier2_retries = 1000000;
  options_.tier2_retry_ms = 1;
  UseTiers({{&tier2_file_, 64}});
  StartStuck();
  Capture(1);
  AwaitSpilled(1);
  const auto before = tier2_file_.Read(0, 64 * kBlock);
  ASSERT_EQ(0, ftruncate(tier2_file_.fd(), 0));
  target_.Open();
  Eventually([&] { return session_->Stats().done_blocks == 1; });  // the copier is at block 1 next
  ASSERT_EQ(static_cast<ssize_t>(before.size()), pwrite(tier2_file_.fd(), before.data(), before.size(), 0));
  Finish();
  EXPECT_EQ(0u, log_.Count(NoticeKind::kTier2Data));
}

TEST_F(CopyTiersTest, SaysWhichTierABlockIsLostIn) {
  UseTiers({{&tier2_file_, 2}, {&other_file_, 64}});
  StartStuck();
  for (uint64_t block = 1; block < 6; block++) Capture(block);
  AwaitSpilled(5);
  ASSERT_EQ(0, ftruncate(other_file_.fd(), 0));
  target_.Open();
  const Notice lost = log_.Await(NoticeKind::kTier2Data);
  EXPECT_EQ(-EIO, lost.error);
  EXPECT_EQ(1u, lost.value);
}

TEST_F(CopyTiersTest, GivesUpATierThatCannotBeReadAndTellsItOnce) {
  UseTiers({{&tier2_file_, 64}, {&other_file_, 64}});
  StartStuck();
  for (uint64_t block = 1; block < 6; block++) Capture(block);
  AwaitSpilled(5);
  ASSERT_EQ(0, ftruncate(tier2_file_.fd(), 0));
  target_.Open();
  const Notice data = log_.Await(NoticeKind::kTier2Data);
  const Notice lost = log_.Await(NoticeKind::kTier2Lost);
  EXPECT_EQ(-EIO, data.error);
  EXPECT_EQ(-EIO, lost.error);
  EXPECT_EQ(0u, lost.value);
  EXPECT_TRUE(session_->Stats().tiers[0].lost);
  Eventually([&] { return session_->Stats().done_blocks == 1; });
  // whoever is captured meanwhile goes to the next one
  target_.Shut();
  for (uint64_t block = 6; block < 8; block++) Capture(block);
  target_.AwaitInside(1);
  for (uint64_t block = 8; block < 20; block++) Capture(block);
  Eventually([&] { return Used(1) >= 10; });
  EXPECT_EQ(5u, Used(0));
  target_.Open();
  session_->PushWork({{0, kSize}}, false);
  Eventually([&] { return session_->Stats().done_blocks == kBlocks - 5; });
  EXPECT_EQ(1u, log_.Count(NoticeKind::kTier2Lost));
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete)) << "five blocks are lost";
}

TEST_F(CopyTiersTest, SpillsOnWhenAFullTierGrows) {
  UseTiers({{&other_file_, 2}});
  StartStuck();
  for (uint64_t block = 1; block < 8; block++) driver_.Capture(block, free_[block - 1], Origin(block));
  Eventually([&] { return Used(0) == 2 && session_->Stats().slots_used == 5; });
  session_->ResizeTier2(0, 5 * kBlock + 100, Note());
  EXPECT_EQ(0, resized_);
  Eventually([&] { return Used(0) == 5 && session_->Stats().slots_used == 2; });
  EXPECT_EQ(5u, session_->Stats().tier2_total);
  Finish();
}

TEST_F(CopyTiersTest, ShrinksWhenWhatLiesBeyondTheNewEndIsDrained) {
  UseTiers({{&tier2_file_, 64}});
  StartStuck();
  for (uint64_t block = 1; block < 41; block++) Capture(block);
  Eventually([&] { return Used(0) == 40; });
  session_->ResizeTier2(0, 16 * kBlock, Note());
  for (uint64_t block = 41; block < 45; block++) Capture(block);  // room beyond the end is none
  Eventually([&] { return session_->Stats().slots_used == 4; });
  EXPECT_EQ(40u, Used(0));
  EXPECT_EQ(1, resized_);
  target_.Open();
  Eventually([&] { return resized_ == 0; });
  ASSERT_EQ(0, ftruncate(tier2_file_.fd(), 16 * kBlock));
  Finish();
  // what lay beyond, and what was in slots meanwhile, before all else
  auto order = target_.Order();
  order.resize(29);
  std::sort(order.begin() + 1, order.end());
  for (size_t i = 1; i < order.size(); i++) EXPECT_EQ((i + 16) * kBlock, order[i]);
}

TEST_F(CopyTiersTest, BlocksThatHaveToLeaveTakeTurnsWithSlots) {
  UseTiers({{&tier2_file_, 3}});
  StartStuck();
  for (uint64_t block = 1; block < 4; block++) Capture(block);
  AwaitSpilled(3);
  for (uint64_t block = 4; block < 8; block++) Capture(block);
  Eventually([&] { return session_->Stats().slots_used == 4; });
  session_->ResizeTier2(0, 0, Note());
  target_.Open();
  Eventually([&] { return session_->Stats().done_blocks == 8; });
  std::vector<uint64_t> order;
  for (uint64_t offset : target_.Order()) order.push_back(offset / kBlock);
  EXPECT_EQ((std::vector<uint64_t>{0, 4, 1, 5, 2, 6, 3, 7}), order);
  Eventually([&] { return resized_ == 0; });
}

TEST_F(CopyTiersTest, EndsAResizeThatWaitsWithTheSession) {
  UseTiers({{&tier2_file_, 64}});
  StartStuck();
  for (uint64_t block = 1; block < 6; block++) Capture(block);
  Eventually([&] { return Used(0) == 5; });
  session_->ResizeTier2(0, kBlock, Note());
  session_->ResizeTier2(1, kBlock, [](int error) { EXPECT_EQ(-EINVAL, error); });
  EXPECT_EQ(1, resized_);
  target_.FailNext(1000000, -EIO);
  target_.Open();
  session_->Stop();
  EXPECT_EQ(-ECANCELED, resized_);
}

}  // namespace
}  // namespace snapbak
