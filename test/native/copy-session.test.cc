// SPDX-License-Identifier: MIT
// The copy session against a driver that the test plays: each rule alone, in an
// order that the test decides. copy-stress.test.cc runs it against the engine.
#include <fcntl.h>

#include <algorithm>
#include <thread>

#include "copy-rig.h"
#include "native/copy/copy_session.h"
#include "native/copy/crc32c.h"

namespace snapbak {
namespace {

constexpr uint32_t kShift = 12;
constexpr uint64_t kBlock = 1u << kShift;
constexpr uint64_t kBlocks = 200;
constexpr uint64_t kSize = (kBlocks - 1) * kBlock + 1234;  // a short last block

class CopySessionTest : public testing::Test {
 protected:
  explicit CopySessionTest(uint32_t slots = 8) : driver_(kSize, kShift, slots) {
    options_.copy_threads = 2;
    options_.read_bytes = 4 * kBlock;
    options_.target_retry_ms = 1;
  }
  void TearDown() override {
    target_.Open();
    if (session_ != nullptr) session_->Stop();
    EXPECT_LE(log_.Count(NoticeKind::kComplete), 1u);
  }

  void Make(const std::vector<Extent>& listed = {{0, kSize}}) {
    session_ = std::make_unique<CopySession>(&driver_, &driver_.library, origin_.Duplicate(), 512, &target_,
                                             tier2_.get(), &checksums_, options_, log_.Sink());
    ASSERT_EQ(0, session_->Prepare(listed));
  }
  void Start() {
    snapbak_start start{};
    ASSERT_EQ(0, session_->Start(&start));
  }
  void MakeAndStart(const std::vector<Extent>& listed = {{0, kSize}}) {
    Make(listed);
    Start();
  }
  void UseTier2(uint64_t places) {
    tier2_ = std::make_unique<Tier2>(tier2_file_.Duplicate(), false, places * kBlock, kBlock);
  }
  static uint64_t Bytes(uint64_t block) { return std::min(kBlock, kSize - block * kBlock); }
  const uint8_t* Origin(uint64_t block) const { return &bytes_[block * kBlock]; }
  void ExpectCopied(uint64_t block, bool copied = true) {
    std::vector<uint8_t> want(Bytes(block), MemoryTarget::kUntouched);
    if (copied) want.assign(Origin(block), Origin(block) + Bytes(block));
    const std::vector<uint8_t> got(&target_.bytes[block * kBlock],
                                   &target_.bytes[block * kBlock] + Bytes(block));
    ASSERT_EQ(want, got) << "block " << block;
    uint32_t sum = 0;
    const int error = checksums_.Get(block, &sum, 1);
    ASSERT_TRUE(!copied || error == 0) << error;
    ASSERT_EQ(copied ? Crc32c(0, want.data(), want.size()) : 0, sum) << "block " << block;
  }
  void ExpectAllCopied() {
    for (uint64_t block = 0; block < kBlocks; block++) ExpectCopied(block);
  }
  // Waits for what another thread is about to count; the deadline is only for a broken build.
  void Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 30000 && !condition(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(condition());
  }

  std::vector<uint8_t> bytes_ = [] {
    auto bytes = RandomBytes(kSize, 1);
    std::fill_n(&bytes[7 * kBlock], 3 * kBlock, 0);
    return bytes;
  }();
  TestFile origin_{bytes_};
  TestFile checksum_bytes_{0};
  TestFile tier2_file_{64 * kBlock};
  ChecksumFile checksums_{checksum_bytes_.Duplicate()};
  MemoryTarget target_{kSize};
  FakeDriver driver_;
  CopyOptions options_;
  NoticeLog log_;
  std::unique_ptr<Tier2> tier2_;
  std::unique_ptr<CopySession> session_;
};

class CopySessionOneSlotTest : public CopySessionTest {
 protected:
  CopySessionOneSlotTest() : CopySessionTest(1) {}
};

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
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, sparse.Duplicate(), 512, &target_,
                                           nullptr, &checksums_, options_, log_.Sink());
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

// --- events

TEST_F(CopySessionTest, GivesSlotsBackOnceTheTargetHasTheirBytes) {
  MakeAndStart();
  target_.Shut();
  for (uint32_t slot = 0; slot < 8; slot++) driver_.Capture(20 + slot, slot, Origin(20 + slot));
  target_.AwaitInside(2);
  EXPECT_TRUE(driver_.TakeFree().empty());
  Eventually([&] { return session_->Stats().slots_used == 8; });
  target_.Open();
  Eventually([&] { return session_->Stats().done_blocks == 8; });
  std::vector<uint32_t> slots;
  Eventually([&] {
    for (uint32_t slot : driver_.TakeFree()) slots.push_back(slot);
    return slots.size() == 8;
  });
  std::sort(slots.begin(), slots.end());
  for (uint32_t slot = 0; slot < 8; slot++) {
    EXPECT_EQ(slot, slots[slot]);
    ExpectCopied(20 + slot);
  }
  EXPECT_GE(driver_.mine.header()->heartbeat, 8u);
}

TEST_F(CopySessionTest, CopiesTheShortLastBlockFromASlot) {
  MakeAndStart();
  driver_.Capture(kBlocks - 1, 3, Origin(kBlocks - 1));
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

TEST_F(CopySessionOneSlotTest, ServesAWantedBlockWhileAnotherHoldsTheOnlySlot) {
  MakeAndStart();
  target_.Shut();
  driver_.Capture(1, 0, Origin(1));
  target_.AwaitInside(1);
  driver_.mine.header()->driver_waiting = 1;
  driver_.Publish(2, SNAPBAK_EVENT_WANTED);
  // The bit is cleared and the driver kicked before the target has taken anything.
  Eventually([&] { return !snapbak_bitmap_test(driver_.mine.bitmap(), 2); });
  Eventually([&] { return driver_.kicks > 0; });
  target_.Open();
  Eventually([&] { return session_->Stats().done_blocks == 2; });
  ExpectCopied(2);
}

TEST_F(CopySessionTest, CountsAWantedBlockThatIsSafeAlreadyAndDoesNothing) {
  MakeAndStart();
  driver_.Capture(1, 0, Origin(1));
  for (int i = 0; i < 5; i++) driver_.Publish(1, SNAPBAK_EVENT_WANTED);
  Eventually([&] { return session_->Stats().wanted_blocks == 5 && session_->Stats().done_blocks == 1; });
  EXPECT_EQ(0u, session_->Stats().swept_blocks);
}

TEST_F(CopySessionTest, CompletesWithTheBlocksThatTheDriverCouldNotRead) {
  MakeAndStart();
  ASSERT_TRUE(snapbak_bitmap_test_and_clear(driver_.mine.bitmap(), 9));
  driver_.Publish(9, SNAPBAK_EVENT_INVALID, 0, -EIO);
  const Notice notice = log_.Await(NoticeKind::kInvalid);
  EXPECT_EQ(9u, notice.block);
  EXPECT_EQ(-EIO, notice.error);
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  EXPECT_EQ(1u, session_->Stats().invalid_blocks);
  EXPECT_EQ(kBlocks - 1, session_->Stats().done_blocks);
  ExpectCopied(9, false);
}

TEST_F(CopySessionTest, FindsTheUnreadableBlocksOfARunAndCopiesTheOthers) {
  ASSERT_EQ(0, ftruncate(origin_.fd(), 150 * kBlock + 10));  // the rest cannot be read
  MakeAndStart();
  const std::vector<uint8_t> captured = RandomBytes(kBlock, 5);
  driver_.Capture(151, 2, captured.data());  // unreadable too, but captured in time
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  EXPECT_EQ(kBlocks - 151, session_->Stats().invalid_blocks);
  EXPECT_EQ(kBlocks - 151, log_.Count(NoticeKind::kInvalid));
  for (uint64_t block = 0; block < 150; block++) ExpectCopied(block);
  EXPECT_EQ(0, std::memcmp(captured.data(), &target_.bytes[151 * kBlock], kBlock));
  ExpectCopied(150, false);
  ExpectCopied(kBlocks - 1, false);
}

TEST_F(CopySessionTest, TakesMoreEventsThanTheRingHolds) {
  MakeAndStart();
  const uint32_t nr = driver_.mine.geometry().nr_events;
  for (uint32_t i = 0; i < 5 * nr; i++) {
    Eventually([&] {
      const snapbak_shm* header = driver_.mine.header();
      return i - snapbak_load_acquire(&header->event_tail.value) < nr;
    });
    driver_.Publish(i % kBlocks, SNAPBAK_EVENT_WANTED);
  }
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

// --- a driver that breaks the contract, breaks the session, or goes

struct Rubbish {
  const char* what;
  snapbak_event event;
};

class CopySessionRubbishTest : public CopySessionTest, public testing::WithParamInterface<Rubbish> {};

TEST_P(CopySessionRubbishTest, BreaksTheSession) {
  MakeAndStart();
  ASSERT_TRUE(snapbak_bitmap_test_and_clear(driver_.mine.bitmap(), 1));
  const snapbak_event& event = GetParam().event;
  driver_.Publish(event.block, event.type, event.slot, event.error);
  const Notice notice = log_.Await(NoticeKind::kBroken);
  EXPECT_EQ(static_cast<uint32_t>(SNAPBAK_REASON_PROTOCOL), notice.value);
  EXPECT_EQ(-EPROTO, notice.error);
}

INSTANTIATE_TEST_SUITE_P(Events, CopySessionRubbishTest,
                         testing::Values(Rubbish{"block", {kBlocks, 0, SNAPBAK_EVENT_CAPTURED, 0}},
                                         Rubbish{"hugeblock", {UINT64_MAX, 0, SNAPBAK_EVENT_WANTED, 0}},
                                         Rubbish{"slot", {1, 8, SNAPBAK_EVENT_CAPTURED, 0}},
                                         Rubbish{"type", {1, 0, 0, 0}}, Rubbish{"newtype", {1, 0, 4, 0}},
                                         Rubbish{"pending", {2, 0, SNAPBAK_EVENT_CAPTURED, 0}},
                                         Rubbish{"pendinginvalid", {2, 0, SNAPBAK_EVENT_INVALID, -5}}),
                         [](const auto& info) { return info.param.what; });

TEST_F(CopySessionTest, BreaksWhenASlotComesTwice) {
  MakeAndStart();
  target_.Shut();
  driver_.Capture(1, 4, Origin(1));
  target_.AwaitInside(1);
  driver_.Capture(2, 4, Origin(1));
  EXPECT_EQ(static_cast<uint32_t>(SNAPBAK_REASON_PROTOCOL), log_.Await(NoticeKind::kBroken).value);
}

TEST_F(CopySessionTest, BreaksOnAnImpossibleRingPosition) {
  MakeAndStart();
  snapbak_store_release(&driver_.mine.header()->event_head.value, 100000u);
  driver_.Wake();
  EXPECT_EQ(static_cast<uint32_t>(SNAPBAK_REASON_PROTOCOL), log_.Await(NoticeKind::kBroken).value);
}

TEST_F(CopySessionTest, SaysOnceThatTheDriverBrokeTheSessionAndNeverCompletes) {
  MakeAndStart();
  driver_.SetState(SNAPBAK_STATE_BROKEN, SNAPBAK_REASON_HOLD_TIMEOUT, -ETIMEDOUT);
  const Notice notice = log_.Await(NoticeKind::kBroken);
  EXPECT_EQ(static_cast<uint32_t>(SNAPBAK_REASON_HOLD_TIMEOUT), notice.value);
  EXPECT_EQ(-ETIMEDOUT, notice.error);
  session_->PushWork({{0, kSize}}, false);
  driver_.Wake();
  session_->Stop();
  EXPECT_EQ(1u, log_.Count(NoticeKind::kBroken));
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete));
  EXPECT_EQ(static_cast<uint32_t>(SNAPBAK_STATE_BROKEN), session_->Stats().state);
}

TEST_F(CopySessionTest, SaysOnceThatTheDriverIsGone) {
  MakeAndStart();
  driver_.Leave();
  log_.Await(NoticeKind::kDriverGone);
  session_->Stop();
  EXPECT_EQ(1u, log_.Count(NoticeKind::kDriverGone));
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
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, origin_.Duplicate(), 512, &target_,
                                           nullptr, &full, options_, log_.Sink());
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
  UniqueFd read_only(open(("/proc/self/fd/" + std::to_string(tier2_file_.fd())).c_str(), O_RDONLY));
  tier2_ = std::make_unique<Tier2>(std::move(read_only), false, 64 * kBlock, kBlock);
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

TEST_F(CopySessionTest, CanBeGivenWorkFromInsideANotice) {
  uint64_t next = 0;
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, origin_.Duplicate(), 512, &target_,
                                           nullptr, &checksums_, options_, [&](const Notice& notice) {
                                             log_.Sink()(notice);
                                             if (notice.kind != NoticeKind::kNeedWork || next >= kSize)
                                               return;
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
    CopySession session(&driver_, &driver_.library, origin_.Duplicate(), 512, &target_, nullptr, nullptr,
                        options_, log_.Sink());
    EXPECT_EQ(-EINVAL, session.Prepare({}));
  }
  options_.copy_threads = 1;
  CopySession session(&driver_, &driver_.library, origin_.Duplicate(), 3 * kBlock, &target_, nullptr, nullptr,
                      options_, log_.Sink());
  EXPECT_EQ(-EINVAL, session.Prepare({}));
}

TEST_F(CopySessionTest, CanBeStoppedTwiceAndWithoutHavingStarted) {
  Make();
  session_->Stop();
  session_->Stop();
}

}  // namespace
}  // namespace snapbak
