// SPDX-License-Identifier: MIT
// What the driver tells the copy session, truth and rubbish.
#include <filesystem>
#include <fstream>
#include <string>

#include "copy-session-fixture.h"

namespace snapbak {
namespace {

class CopySessionOneSlotTest : public CopySessionTest {
 protected:
  CopySessionOneSlotTest() : CopySessionTest(1) {}
};

// --- events

TEST_F(CopySessionTest, KicksAWaitingDriverAfterASlotCameBack) {
  MakeAndStart();
  target_.Shut();
  driver_.Capture(1, 0, Origin(1));
  target_.AwaitInside(1);
  driver_.mine.header()->driver_waiting = 1;  // from now on: the event was taken before
  target_.Open();
  Eventually([&] { return driver_.kicks > 0; });
  EXPECT_EQ(std::vector<uint32_t>{0}, driver_.TakeFree());
}

TEST_F(CopySessionTest, KicksAWaitingDriverAfterItTookEvents) {
  MakeAndStart();
  target_.Shut();
  driver_.mine.header()->driver_waiting = 1;
  ASSERT_TRUE(snapbak_bitmap_test_and_clear(driver_.mine.bitmap(), 1));
  driver_.Publish(1, SNAPBAK_EVENT_WANTED);  // safe already: nothing but the event's place comes free
  Eventually([&] { return driver_.kicks > 0; });
}

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

TEST_F(CopySessionTest, DoesNotCompleteAfterTheSessionBrokeEvenIfTheLastBlockIsWritten) {
  session_ = std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{origin_.Duplicate()},
                                           &target_, nullptr, nullptr, options_, log_.Sink());
  ASSERT_EQ(0, session_->Prepare({{0, kBlock}}));
  Start();
  target_.Shut();
  session_->PushWork({{0, kBlock}}, false);
  target_.AwaitInside(1);
  driver_.SetState(SNAPBAK_STATE_BROKEN, SNAPBAK_REASON_CLOSED);
  log_.Await(NoticeKind::kBroken);
  target_.Open();
  session_->Stop();
  EXPECT_EQ(1u, session_->Stats().done_blocks);
  EXPECT_EQ(0u, log_.Count(NoticeKind::kComplete));
}

// Threads of this process that are called so.
int ThreadsNamed(const std::string& name) {
  int n = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::ifstream file(task.path() / "comm");
    std::getline(file, comm);
    n += comm == name;
  }
  return n;
}

TEST_F(CopySessionTest, RestsWhenADriverStaysAwakeAfterTheEnd) {
  driver_.keeps_awake = true;
  MakeAndStart();
  for (uint32_t block = 0; block < 4; block++) driver_.Capture(block, block, Origin(block));
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
  EXPECT_EQ(1, ThreadsNamed("snapbak-pump"));
  driver_.SetState(SNAPBAK_STATE_FINISHED);
  // A pump that went on would never leave: the driver's wake-up is never taken back.
  Eventually([] { return ThreadsNamed("snapbak-pump") == 0; });
  EXPECT_EQ(0u, log_.Count(NoticeKind::kBroken) + log_.Count(NoticeKind::kDriverGone));
}

TEST_F(CopySessionTest, BreaksWhenADriverIsFinishedBeforeAllIsCopied) {
  MakeAndStart();
  driver_.SetState(SNAPBAK_STATE_FINISHED);
  const Notice notice = log_.Await(NoticeKind::kBroken);
  EXPECT_EQ(-EPROTO, notice.error);
  Eventually([] { return ThreadsNamed("snapbak-pump") == 0; });
}

TEST_F(CopySessionTest, RestsWhenADriverStaysAwakeAfterItBroke) {
  driver_.keeps_awake = true;
  MakeAndStart();
  driver_.SetState(SNAPBAK_STATE_BROKEN, SNAPBAK_REASON_ABORTED);
  log_.Await(NoticeKind::kBroken);
  Eventually([] { return ThreadsNamed("snapbak-pump") == 0; });
  EXPECT_EQ(1u, log_.Count(NoticeKind::kBroken));
}

TEST_F(CopySessionTest, SaysOnceThatTheDriverIsGone) {
  MakeAndStart();
  driver_.Leave();
  log_.Await(NoticeKind::kDriverGone);
  session_->Stop();
  EXPECT_EQ(1u, log_.Count(NoticeKind::kDriverGone));
}

// --- hints

TEST_F(CopySessionTest, TellsOfHintsOnceUntilTheyAreTaken) {
  MakeAndStart();
  snapbak_hint hint{};
  for (uint64_t i = 0; i < 5; i++) {
    hint.extent = {i * kBlock, kBlock};
    driver_.Hint(&hint);
    log_.Await(NoticeKind::kHint);
  }
  std::vector<Extent> taken;
  Eventually([&] {
    for (const Extent& extent : session_->TakeHints()) taken.push_back(extent);
    return taken.size() == 5;
  });
  for (uint64_t i = 0; i < 5; i++) EXPECT_EQ(i * kBlock, taken[i].offset);
  const size_t told = log_.Count(NoticeKind::kHint);
  hint.extent = {0, kSize};
  driver_.Hint(&hint);
  log_.Await(NoticeKind::kHint, told + 1);
  EXPECT_EQ(1u, session_->TakeHints().size());
  EXPECT_EQ(0u, session_->Stats().done_blocks) << "a hint decides nothing by itself";
}

TEST_F(CopySessionTest, IsWokenByAHintAndSleepsAgain) {
  driver_.keeps_awake = true;  // as the kernel's descriptor: it must be told that the hints are taken
  MakeAndStart();
  snapbak_hint hint{};
  hint.extent = {0, kBlock};
  driver_.Hint(&hint);
  log_.Await(NoticeKind::kHint);
  Eventually([&] { return driver_.mine.header()->hint_tail.value == 1; });
  Eventually([&] { return snapbak_load_relaxed(&driver_.mine.header()->library_asleep) == 1; });
  const int waits = driver_.waits;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_LE(driver_.waits, waits + 2) << "it does not sleep";
}

TEST_F(CopySessionTest, BearsAHintRingOfRubbish) {
  MakeAndStart();
  snapbak_shm* header = driver_.mine.header();
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; round++) {
    for (snapbak_extent& entry : header->hints) {
      snapbak_store_relaxed(&entry.offset, random());
      snapbak_store_relaxed(&entry.length, random());
    }
    snapbak_store_release(&header->hint_head.value, static_cast<__u32>(random()));
    driver_.Wake();
    for (const Extent& extent : session_->TakeHints()) EXPECT_LE(extent.offset + extent.length, kSize);
  }
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  ExpectAllCopied();
}

TEST_F(CopySessionTest, FindsTheNextPendingBlock) {
  Make({{5 * kBlock, 2 * kBlock}, {9 * kBlock, kBlock}});
  EXPECT_EQ(5u, session_->NextPending(0, kBlocks));
  EXPECT_EQ(6u, session_->NextPending(6, kBlocks));
  EXPECT_EQ(9u, session_->NextPending(7, kBlocks));
  EXPECT_EQ(9u, session_->NextPending(7, 9)) << "none before the end";
  EXPECT_EQ(kBlocks, session_->NextPending(10, ~0ull));
  EXPECT_EQ(kBlocks, session_->NextPending(~0ull, ~0ull));
}

}  // namespace
}  // namespace snapbak
