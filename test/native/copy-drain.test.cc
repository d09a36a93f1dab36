// SPDX-License-Identifier: MIT
// Where captured blocks go: the target and its failures, tier 2 and its failures.
#include "copy-session-fixture.h"

namespace snapbak {
namespace {

// --- who comes first

class CopyOrderTest : public CopySessionTest {
 protected:
  // One copier, busy with block 0, while a capture, a wanted block and work gather.
  std::vector<uint64_t> OrderWithWatermark(uint32_t slots) {
    options_.copy_threads = 1;
    options_.watermark_low = slots;
    MakeAndStart();
    target_.Shut();
    session_->PushWork({{0, kBlock}}, false);
    target_.AwaitInside(1);
    session_->PushWork({{10 * kBlock, kBlock}}, false);
    driver_.Capture(20, 0, Origin(20));
    driver_.Publish(30, SNAPBAK_EVENT_WANTED);
    Eventually([&] { return session_->Stats().wanted_blocks == 1 && session_->Stats().slots_used == 1; });
    target_.Open();
    Eventually([&] { return session_->Stats().done_blocks == 4; });
    std::vector<uint64_t> order;
    for (uint64_t offset : target_.Order()) order.push_back(offset / kBlock);
    return order;
  }
};

TEST_F(CopyOrderTest, WantedBlocksThenSlotsThenTheSweepAboveTheLowWatermark) {
  EXPECT_EQ((std::vector<uint64_t>{0, 30, 20, 10}), OrderWithWatermark(0));
}

TEST_F(CopyOrderTest, WantedBlocksThenTheSweepThenSlotsBelowIt) {
  EXPECT_EQ((std::vector<uint64_t>{0, 30, 10, 20}), OrderWithWatermark(1));
}

// --- the target

TEST_F(CopySessionTest, TriesAFailedWriteAgain) {
  MakeAndStart();
  target_.FailNext(3, -ENOSPC);
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  EXPECT_EQ(0u, log_.Count(NoticeKind::kTargetError));
}

TEST_F(CopySessionTest, GivesTheTargetUpOnceAndKeepsTheCaptures) {
  MakeAndStart();
  target_.FailNext(1000000, -EIO);
  session_->PushWork({{0, kSize}}, false);
  EXPECT_EQ(-EIO, log_.Await(NoticeKind::kTargetError).error);
  const int calls = target_.calls;
  for (uint32_t slot = 0; slot < 8; slot++) driver_.Capture(150 + slot, slot, Origin(150 + slot));
  Eventually([&] { return session_->Stats().slots_used == 8; });
  session_->Stop();
  EXPECT_LE(target_.calls, calls + 4);  // what was under way, not a try more
  EXPECT_TRUE(driver_.TakeFree().empty());
  EXPECT_EQ(1u, log_.Count(NoticeKind::kTargetError));
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete));
  EXPECT_EQ(0u, session_->Stats().done_blocks);
}

TEST_F(CopySessionTest, StopsInTheMiddleOfABackOff) {
  options_.target_retry_ms = 3600 * 1000;
  MakeAndStart();
  target_.FailNext(1000000, -EIO);
  session_->PushWork({{0, kSize}}, false);
  Eventually([&] { return target_.calls >= 1; });
  session_->Stop();  // would last an hour
  EXPECT_EQ(0u, log_.Count(NoticeKind::kTargetError));
}

TEST_F(CopySessionTest, TreatsTheChecksumFileAsPartOfTheTarget) {
  ChecksumFile full(UniqueFd(open("/dev/full", O_RDWR)));
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{origin_.Duplicate()},
                                           &target_, nullptr, &full, options_, log_.Sink());
  ASSERT_EQ(0, session_->Prepare({{0, kSize}}));
  Start();
  session_->PushWork({{0, kSize}}, false);
  EXPECT_EQ(-ENOSPC, log_.Await(NoticeKind::kTargetError).error);
  EXPECT_EQ(0u, session_->Stats().done_blocks);
  session_->Stop();
}

// --- tier 2

TEST_F(CopySessionTest, SpillsWhatTheTargetCannotTakeAndDrainsItLater) {
  UseTier2(64);
  options_.watermark_low = 2;
  MakeAndStart();
  target_.Shut();
  std::vector<uint32_t> free = {0, 1, 2, 3, 4, 5, 6, 7};
  for (uint64_t block = 0; block < 40; block++) {
    Eventually([&] {
      for (uint32_t slot : driver_.TakeFree()) free.push_back(slot);
      return !free.empty();
    });
    driver_.Capture(block, free.back(), Origin(block));
    free.pop_back();
  }
  // two are on their way to the target; all others had to make room
  Eventually([&] { return session_->Stats().spilled_blocks == 38 && session_->Stats().slots_used == 2; });
  EXPECT_EQ(64u, session_->Stats().tier2_total);
  EXPECT_EQ(38u, session_->Stats().tier2_used);
  target_.Open();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  Eventually([&] { return session_->Stats().tier2_used == 0; });
}

TEST_F(CopySessionTest, GoesOnWithSlotsAloneWhenTier2IsFull) {
  UseTier2(3);
  MakeAndStart();
  target_.Shut();
  for (uint32_t slot = 0; slot < 8; slot++) driver_.Capture(slot, slot, Origin(slot));
  Eventually([&] { return session_->Stats().tier2_used == 3; });
  target_.Open();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  EXPECT_EQ(0u, log_.Count(NoticeKind::kTier2Lost));
}

TEST_F(CopySessionTest, GivesTier2UpWhenItFailsAndCompletesAllTheSame) {
  std::vector<std::unique_ptr<Tier2>> tiers;
  tiers.push_back(MakeTier2(tier2_file_.ReadOnly(), 64));
  tiers_ = std::make_unique<Tier2Set>(std::move(tiers));
  MakeAndStart();
  target_.Shut();
  for (uint32_t slot = 0; slot < 8; slot++) driver_.Capture(slot, slot, Origin(slot));
  EXPECT_EQ(-EBADF, log_.Await(NoticeKind::kTier2Lost).error);
  target_.Open();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  EXPECT_EQ(1u, log_.Count(NoticeKind::kTier2Lost));
}

TEST_F(CopySessionTest, NeverCompletesWithABlockThatTier2GivesBackChanged) {
  UseTier2(64);
  MakeAndStart();
  target_.Shut();
  for (uint32_t slot = 0; slot < 8; slot++) driver_.Capture(slot, slot, Origin(slot));
  Eventually([&] { return session_->Stats().spilled_blocks > 0; });
  const uint8_t other = Origin(0)[100] + 1;
  for (int place = 0; place < 64; place++) {  // whichever place it was
    ASSERT_EQ(1, pwrite(tier2_file_.fd(), &other, 1, place * kBlock + 100));
  }
  target_.Open();
  session_->PushWork({{0, kSize}}, false);
  EXPECT_EQ(-EILSEQ, log_.Await(NoticeKind::kTier2Data).error);
  session_->Stop();
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete));
  EXPECT_LT(session_->Stats().done_blocks, kBlocks);
}

}  // namespace
}  // namespace snapbak
