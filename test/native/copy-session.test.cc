// SPDX-License-Identifier: MIT
// The sweep, the claim, and the work that the scheduler hands out, in an order
// that the test decides. copy-stress.test.cc runs the session against the engine.
#include "copy-session-fixture.h"

namespace snapbak {
namespace {

// --- the sweep

TEST_F(CopySessionTest, CopiesEverythingWithItsChecksums) {
  MakeAndStart();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  const CopyStats stats = session_->Stats();
  EXPECT_EQ(kBlocks, stats.listed_blocks);
  EXPECT_EQ(kBlocks, stats.done_blocks);
  EXPECT_EQ(kBlocks, stats.swept_blocks);
  EXPECT_EQ(3u, stats.zero_blocks);
  EXPECT_EQ(3 * kBlock, target_.zeroed);
  EXPECT_EQ(kSize - 3 * kBlock, stats.written_bytes);
  EXPECT_EQ(0u, stats.dropped_bytes);
  EXPECT_EQ(0u, stats.queued_work_bytes);
  EXPECT_GE(stats.buffer_bytes, 2 * 4 * kBlock);
  EXPECT_EQ(0u, snapbak_bitmap_count(driver_.mine.bitmap(), 0, kBlocks));
}

TEST_F(CopySessionTest, ListsWholeBlocksOnceAndCopiesNoOther) {
  MakeAndStart(
      {{10 * kBlock + 1, 2}, {10 * kBlock, kBlock + 1}, {kSize - 1, 1}, {kSize + kBlock, 5}, {0, 0}});
  session_->PushWork({{0, UINT64_MAX}}, false);
  log_.Await(NoticeKind::kComplete);
  EXPECT_EQ(3u, session_->Stats().listed_blocks);
  for (uint64_t block = 0; block < kBlocks; block++) {
    ExpectCopied(block, block == 10 || block == 11 || block == kBlocks - 1);
  }
}

TEST_F(CopySessionTest, IsCompleteAtOnceWhenNothingIsListed) {
  MakeAndStart({});
  log_.Await(NoticeKind::kComplete);
}

TEST_F(CopySessionTest, DoesNotTouchABlockBeforeTheStartInstant) {
  Make();
  session_->PushWork({{0, kSize}}, false);
  driver_.Publish(3, SNAPBAK_EVENT_WANTED);  // the pump is awake: what copiers do now would show
  Eventually([&] { return session_->Stats().wanted_blocks == 1; });
  EXPECT_EQ(kBlocks, snapbak_bitmap_count(driver_.mine.bitmap(), 0, kBlocks));
  EXPECT_EQ(0u, session_->Stats().read_bytes);
  Start();
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

TEST_F(CopySessionTest, CopiesSparseRegionsWithoutReadingThem) {
  TestFile sparse(kSize);
  ASSERT_EQ(5, pwrite(sparse.fd(), "hello", 5, 50 * kBlock));
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{sparse.Duplicate()},
                                           &target_, nullptr, &checksums_, options_, log_.Sink());
  ASSERT_EQ(0, session_->Prepare({{0, kSize}}));
  Start();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  EXPECT_EQ(sparse.Read(0, kSize), target_.bytes);
  EXPECT_EQ(kBlocks - 1, session_->Stats().zero_blocks);
  EXPECT_LT(session_->Stats().read_bytes, 8 * kBlock);
  std::vector<uint8_t> zeroes(kBlock);
  uint32_t sum;
  ASSERT_EQ(0, checksums_.Get(kBlocks - 1, &sum, 1));
  EXPECT_EQ(Crc32c(0, zeroes.data(), Bytes(kBlocks - 1)), sum);
}

TEST_F(CopySessionTest, FindsTheOriginWhereItBeginsOnTheLowerDevice) {
  constexpr uint64_t kBefore = 3 * kBlock + 512;
  TestFile lower(kBefore + kSize + 4096);
  ASSERT_EQ(static_cast<ssize_t>(kBefore), pwrite(lower.fd(), RandomBytes(kBefore, 9).data(), kBefore, 0));
  // a hole, which lies elsewhere on the lower device than in the origin
  const std::vector<Extent> data = {{0, 90 * kBlock}, {110 * kBlock, kSize - 110 * kBlock}};
  std::fill(&bytes_[90 * kBlock], &bytes_[110 * kBlock], 0);
  for (const Extent& extent : data) {
    ASSERT_EQ(static_cast<ssize_t>(extent.length), pwrite(lower.fd(), &bytes_[extent.offset], extent.length,
                                                          static_cast<off_t>(kBefore + extent.offset)));
  }
  session_ =
      std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{lower.Duplicate(), 512, kBefore},
                                    &target_, nullptr, &checksums_, options_, log_.Sink());
  ASSERT_EQ(0, session_->Prepare({{0, kSize}}));
  Start();
  driver_.Publish(150, SNAPBAK_EVENT_WANTED);
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  EXPECT_LT(session_->Stats().read_bytes, kSize - 10 * kBlock) << "the hole was read";
}

TEST_F(CopySessionTest, CopiesPrioritisedWorkFirst) {
  options_.copy_threads = 1;
  MakeAndStart();
  target_.Shut();
  session_->PushWork({{0, 4 * kBlock}}, false);
  target_.AwaitInside(1);  // the only copier is busy with the first run
  session_->PushWork({{4 * kBlock, kSize - 4 * kBlock}}, false);
  session_->PushWork({{150 * kBlock, kBlock}}, true);
  target_.Open();
  log_.Await(NoticeKind::kComplete);
  const std::vector<uint64_t> order = target_.Order();
  ASSERT_GE(order.size(), 3u);
  EXPECT_EQ(0u, order[0]);
  EXPECT_EQ(150 * kBlock, order[1]);
  EXPECT_EQ(4 * kBlock, order[2]);
  ExpectAllCopied();
}

TEST_F(CopySessionTest, LeavesTheSweepAloneWhilePausedAndStillDrains) {
  Make();
  session_->SetPaused(true);
  Start();
  session_->PushWork({{0, kSize}}, false);
  driver_.Capture(5, 0, Origin(5));
  driver_.Publish(6, SNAPBAK_EVENT_WANTED);
  Eventually([&] { return session_->Stats().done_blocks == 2; });
  EXPECT_EQ(kBlocks - 2, snapbak_bitmap_count(driver_.mine.bitmap(), 0, kBlocks));
  ExpectCopied(5);
  ExpectCopied(6);
  session_->SetPaused(false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

TEST_F(CopySessionTest, ReadsADirectDescriptorInWholeSectors) {
  char path[] = "copy-session-direct-XXXXXX";  // here, not in /tmp: that may be a tmpfs
  UniqueFd file(mkstemp(path));
  ASSERT_TRUE(file.valid());
  ASSERT_EQ(static_cast<ssize_t>(kSize), pwrite(file.get(), bytes_.data(), kSize, 0));
  UniqueFd direct(open(path, O_RDONLY | O_DIRECT));
  unlink(path);
  if (!direct.valid()) GTEST_SKIP() << "NOT TESTED: no O_DIRECT in this directory; run it on ext4 or xfs";
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{std::move(direct)}, &target_,
                                           nullptr, &checksums_, options_, log_.Sink());
  ASSERT_EQ(0, session_->Prepare({{0, kSize}}));
  Start();
  session_->PushWork({{kSize - 1, 1}, {0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

// --- the claim

TEST_F(CopySessionTest, DropsWhatWasCapturedWhileItRead) {
  // The capture's bytes differ from the origin's: only they may reach the target.
  MakeAndStart();
  std::vector<uint8_t> captured = RandomBytes(kBlock, 77);
  driver_.Capture(5, 0, captured.data());
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  EXPECT_EQ(0, std::memcmp(captured.data(), &target_.bytes[5 * kBlock], kBlock));
  EXPECT_EQ(1u, session_->Stats().captured_blocks);
  EXPECT_EQ(kBlocks - 1, session_->Stats().swept_blocks);
}

TEST_F(CopySessionTest, KicksAWaitingDriverAfterAClaim) {
  MakeAndStart();
  EXPECT_EQ(0, driver_.kicks);
  driver_.mine.header()->driver_waiting = 1;
  session_->PushWork({{0, kBlock}}, false);
  Eventually([&] { return driver_.kicks > 0 && session_->Stats().done_blocks == 1; });
}

// --- work and its notices

TEST_F(CopySessionTest, AsksForWorkAtTheStart) {
  MakeAndStart();
  log_.Await(NoticeKind::kNeedWork);
  session_->Stop();
  EXPECT_EQ(1u, log_.Count(NoticeKind::kNeedWork));
}

TEST_F(CopySessionTest, AsksForWorkWhenItRunsLowAndAgainWhenItIsDry) {
  Make();
  session_->PushWork({{0, 64 * kBlock}}, false);
  Start();
  log_.Await(NoticeKind::kNeedWork, 2);
  Eventually([&] { return session_->Stats().done_blocks == 64; });
  session_->PushWork({}, false);  // no work is no reason to ask again
  session_->PushWork({{64 * kBlock, kBlock}}, false);
  log_.Await(NoticeKind::kNeedWork, 3);
  session_->PushWork({{65 * kBlock, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

TEST_F(CopySessionTest, AsksForWorkWhenNothingOfWhatIsLeftIsPendingAnyMore) {
  options_.copy_threads = 1;  // a second one would look once more
  Make();
  session_->PushWork({{0, 64 * kBlock}, {0, 64 * kBlock}}, false);
  Start();
  log_.Await(NoticeKind::kNeedWork);
  Eventually([&] { return session_->Stats().done_blocks == 64; });
  session_->PushWork({{0, kBlock}}, false);
  log_.Await(NoticeKind::kNeedWork, 2);
  session_->PushWork({{64 * kBlock, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

TEST_F(CopySessionTest, CanBeGivenWorkFromInsideANotice) {
  uint64_t next = 0;
  session_ =
      std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{origin_.Duplicate()}, &target_,
                                    nullptr, &checksums_, options_, [&](const Notice& notice) {
                                      log_.Sink()(notice);
                                      if (notice.kind != NoticeKind::kNeedWork || next >= kSize) return;
                                      session_->PushWork({{next, 10 * kBlock}}, false);
                                      next += 10 * kBlock;
                                    });
  ASSERT_EQ(0, session_->Prepare({{0, kSize}}));
  Start();
  log_.Await(NoticeKind::kComplete);
  session_->Stop();
  ExpectAllCopied();
}

// --- misuse

TEST_F(CopySessionTest, RefusesOptionsOutOfRange) {
  for (uint32_t threads : {0u, 17u}) {
    options_.copy_threads = threads;
    CopySession session(&driver_, &driver_.library, LowerView{origin_.Duplicate()}, &target_, nullptr,
                        nullptr, options_, log_.Sink());
    EXPECT_EQ(-EINVAL, session.Prepare({}));
  }
  options_.copy_threads = 1;
  CopySession session(&driver_, &driver_.library, LowerView{origin_.Duplicate(), 3 * kBlock}, &target_,
                      nullptr, nullptr, options_, log_.Sink());
  EXPECT_EQ(-EINVAL, session.Prepare({}));
}

TEST_F(CopySessionTest, CanBeStoppedTwiceAndWithoutHavingStarted) {
  Make();
  session_->Stop();
  session_->Stop();
}

}  // namespace
}  // namespace snapbak
