// SPDX-License-Identifier: MIT
// Blocks that leave the block list while the session runs.
#include "copy-session-fixture.h"

namespace snapbak {
namespace {

class UnlistTest : public CopySessionTest {
 protected:
  std::vector<std::pair<uint64_t, uint64_t>> Unlist(const std::vector<Extent>& extents) {
    std::vector<Extent> taken;
    EXPECT_EQ(0, session_->Unlist(extents, &taken));
    std::vector<std::pair<uint64_t, uint64_t>> pairs;
    for (const Extent& extent : taken) pairs.emplace_back(extent.offset, extent.length);
    return pairs;
  }
  static constexpr uint64_t At(uint64_t block) { return block * kBlock; }
};

TEST_F(UnlistTest, TakesTheBlocksThatLieInsideAsAWhole) {
  MakeAndStart();
  using Taken = std::vector<std::pair<uint64_t, uint64_t>>;
  EXPECT_EQ((Taken{{At(3), 2 * kBlock}}), Unlist({{At(3), 2 * kBlock}}));
  EXPECT_EQ((Taken{{At(11), kBlock}}), Unlist({{At(10) + 1, 2 * kBlock}}));
  EXPECT_EQ((Taken{}), Unlist({{At(20) + 1, kBlock}, {At(30), kBlock - 1}, {kSize, 5}, {0, 0}}));
  EXPECT_EQ((Taken{}), Unlist({{At(kBlocks - 1), kSize - At(kBlocks - 1) - 1}}));
  EXPECT_EQ((Taken{{At(kBlocks - 1), kSize - At(kBlocks - 1)}}), Unlist({{At(kBlocks - 1), UINT64_MAX}}));
  EXPECT_EQ(kBlocks - 4, session_->Stats().listed_blocks);
  // across words of the bitmap, and around what is not pending any more
  EXPECT_EQ((Taken{{At(2), kBlock}, {At(5), 6 * kBlock}, {At(12), 150 * kBlock}}),
            Unlist({{At(2), 160 * kBlock}}));
}

TEST_F(UnlistTest, LeavesOutWhatIsUnlistedAndCompletesWithTheRest) {
  MakeAndStart();
  Unlist({{At(50), 100 * kBlock}});
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  for (uint64_t block = 0; block < kBlocks; block++) ExpectCopied(block, block < 50 || block >= 150);
  const CopyStats stats = session_->Stats();
  EXPECT_EQ(kBlocks - 100, stats.listed_blocks);
  EXPECT_EQ(stats.listed_blocks, stats.done_blocks);
  EXPECT_EQ(stats.listed_blocks, stats.swept_blocks);
}

TEST_F(UnlistTest, LeavesACapturedBlockInTheList) {
  MakeAndStart();
  target_.Shut();
  driver_.Capture(5, 0, Origin(5));
  EXPECT_EQ(2u, Unlist({{0, kSize}}).size());
  EXPECT_EQ(1u, session_->Stats().listed_blocks);
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete));
  target_.Open();
  log_.Await(NoticeKind::kComplete);
  ExpectCopied(5);
}

TEST_F(UnlistTest, CompletesWhenTheLastBlocksAreUnlisted) {
  MakeAndStart();
  session_->PushWork({{0, At(150)}}, false);
  Eventually([&] { return session_->Stats().done_blocks == 150; });
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete));
  Unlist({{At(150), kSize}});
  EXPECT_EQ(1u, log_.Count(NoticeKind::kComplete));
  Unlist({{0, kSize}});
  EXPECT_EQ(1u, log_.Count(NoticeKind::kComplete));
}

TEST_F(UnlistTest, CompletesWhenNothingIsLeftInTheList) {
  MakeAndStart();
  Unlist({{0, kSize}});
  EXPECT_EQ(1u, log_.Count(NoticeKind::kComplete));
  EXPECT_EQ(0u, session_->Stats().listed_blocks);
  EXPECT_EQ(0, target_.calls);
}

TEST_F(UnlistTest, KicksTheDriverForAWriteThatIsHeldForSuchABlock) {
  MakeAndStart();
  driver_.mine.header()->driver_waiting = 1;
  const int kicks = driver_.kicks;
  Unlist({{At(5), kBlock}});
  EXPECT_GT(driver_.kicks, kicks);
  driver_.Publish(5, SNAPBAK_EVENT_WANTED);  // on its way when the block left
  Eventually([&] { return session_->Stats().wanted_blocks == 1; });
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectCopied(5, false);
}

TEST_F(UnlistTest, IsRefusedWhereTheSessionIsNotArmed) {
  std::vector<Extent> taken;
  Make();
  EXPECT_EQ(-EINVAL, session_->Unlist({{0, kSize}}, &taken));
  Start();
  driver_.SetState(SNAPBAK_STATE_BROKEN);
  EXPECT_EQ(-EINVAL, session_->Unlist({{0, kSize}}, &taken));
  EXPECT_TRUE(taken.empty());
  EXPECT_EQ(kBlocks, session_->Stats().listed_blocks);
}

TEST_F(UnlistTest, EndsInOneCompleteNoticeWhoeverIsTheLast) {
  for (int round = 0; round < 50; round++) {
    FakeDriver driver(kSize, kShift, 8);
    MemoryTarget target(kSize);
    NoticeLog log;
    CopySession session(&driver, &driver.library, LowerView{origin_.Duplicate()}, &target, nullptr, nullptr,
                        options_, log.Sink());
    ASSERT_EQ(0, session.Prepare({{0, kSize}}));
    snapbak_start start{};
    ASSERT_EQ(0, session.Start(&start));
    std::vector<Extent> taken;
    std::thread unlister([&] {
      for (uint64_t block = kBlocks; block-- > 0;) {
        ASSERT_EQ(0, session.Unlist({{block * kBlock, kBlock}}, &taken));
      }
    });
    for (uint64_t block = 0; block < kBlocks; block += 5)
      session.PushWork({{block * kBlock, 5 * kBlock}}, false);
    log.Await(NoticeKind::kComplete);
    unlister.join();
    session.Stop();
    EXPECT_EQ(1u, log.Count(NoticeKind::kComplete));
    const CopyStats stats = session.Stats();
    EXPECT_EQ(kBlocks, stats.done_blocks + taken.size());
    EXPECT_EQ(stats.listed_blocks, stats.done_blocks);
    EXPECT_EQ(stats.done_blocks, stats.swept_blocks);
    for (const Extent& extent : taken) EXPECT_EQ(MemoryTarget::kUntouched, target.bytes[extent.offset]);
  }
}

}  // namespace
}  // namespace snapbak
