// SPDX-License-Identifier: MIT
// The point-in-time view, one test for each state that a block can be in when a reader comes, and one for
// each way in which a session can end while readers wait.
#include <future>

#include "copy-session-fixture.h"
#include "native/copy/job_queue.h"

namespace snapbak {
namespace {

class ViewTest : public CopySessionTest {
 protected:
  void MakeWithView(const std::vector<Extent>& listed = {{0, kSize}}) {
    MakeAndStart(listed);
    ASSERT_EQ(0, OpenView(&view_));
  }
  int OpenView(std::unique_ptr<PointInTimeView>* view) {
    return session_->OpenView(std::shared_ptr<Target>(&target_, [](Target*) {}), view);
  }
  // What a write of the application leaves on the lower device.
  void Overwrite(uint64_t block) {
    const std::vector<uint8_t> other(Bytes(block), 0xee);
    ASSERT_EQ(static_cast<ssize_t>(other.size()),
              pwrite(origin_.fd(), other.data(), other.size(), static_cast<off_t>(block * kBlock)));
  }
  // As a write does it, up to where the event would be published.
  void ClaimAsDriver(uint64_t block) {
    ASSERT_TRUE(snapbak_bitmap_test_and_clear(driver_.mine.bitmap(), block));
    Overwrite(block);
  }
  std::vector<uint8_t> Read(uint64_t offset, uint64_t length) {
    std::vector<uint8_t> bytes(length, 0x5a);
    EXPECT_EQ(0, view_->Read(offset, bytes.data(), length)) << offset;
    return bytes;
  }
  int ReadError(uint64_t block) {
    std::vector<uint8_t> bytes(Bytes(block));
    return view_->Read(block * kBlock, bytes.data(), bytes.size());
  }
  void ExpectInstant(uint64_t offset, uint64_t length) {
    EXPECT_EQ(std::vector<uint8_t>(&bytes_[offset], &bytes_[offset] + length), Read(offset, length))
        << "[" << offset << ", " << offset + length << ")";
  }
  void ExpectInstant(uint64_t block) { ExpectInstant(block * kBlock, Bytes(block)); }
  std::future<int> ReadElsewhere(uint64_t block) {
    return std::async(std::launch::async, [this, block] { return ReadError(block); });
  }
  static int Get(std::future<int>& future) {
    if (future.wait_for(std::chrono::seconds(60)) == std::future_status::ready) return future.get();
    ADD_FAILURE() << "the reader does not come back";
    std::abort();  // its future would wait for ever
  }

  std::unique_ptr<PointInTimeView> view_;
};

// --- a block in each of its states

TEST_F(ViewTest, ReadsAPendingBlockFromTheLowerDevice) {
  MakeWithView();
  EXPECT_EQ(kSize, view_->size());
  EXPECT_TRUE(view_->read_only());
  ExpectInstant(0, kSize);
  for (const auto& [offset, length] :
       {std::pair{1ul, 1ul}, {kBlock - 1, 2ul}, {5 * kBlock + 7, 3 * kBlock}, {kSize - 1, 1ul}}) {
    ExpectInstant(offset, length);
  }
  EXPECT_EQ(0, target_.reads);
}

TEST_F(ViewTest, ReadsACapturedBlockFromItsSlot) {
  MakeWithView();
  target_.Shut();
  for (uint32_t slot = 0; slot < 2; slot++) driver_.Capture(slot, slot, Origin(slot));
  target_.AwaitInside(2);  // so nobody is left to take the next one
  for (uint32_t slot = 2; slot < 8; slot++) {
    driver_.Capture(slot, slot, Origin(slot));
    Overwrite(slot);
    ExpectInstant(slot);
    ExpectInstant(slot * kBlock + 100, 50);
  }
  EXPECT_EQ(0, target_.reads);
}

TEST_F(ViewTest, WaitsForABlockInACopiersHands) {
  MakeWithView();
  target_.Shut();
  driver_.Capture(3, 0, Origin(3));
  Overwrite(3);
  target_.AwaitInside(1);
  std::future<int> reader = ReadElsewhere(3);
  EXPECT_EQ(std::future_status::timeout, reader.wait_for(std::chrono::milliseconds(20)));
  target_.Open();
  EXPECT_EQ(0, Get(reader));
  ExpectInstant(3);
  EXPECT_GE(target_.reads, 1);
}

TEST_F(ViewTest, WaitsForAnEventThatIsOnItsWay) {
  MakeWithView();
  ClaimAsDriver(4);
  std::future<int> reader = ReadElsewhere(4);
  EXPECT_EQ(std::future_status::timeout, reader.wait_for(std::chrono::milliseconds(20)));
  std::memcpy(driver_.mine.slot(0), Origin(4), kBlock);
  driver_.Publish(4, SNAPBAK_EVENT_CAPTURED, 0);
  EXPECT_EQ(0, Get(reader));
  ExpectInstant(4);
}

TEST_F(ViewTest, ReadsASpilledBlockOnceItWasDrained) {
  UseTier2(64);
  MakeWithView();
  target_.Shut();
  for (uint32_t slot = 0; slot < 8; slot++) {
    driver_.Capture(slot, slot, Origin(slot));
    Overwrite(slot);
  }
  Eventually([&] { return session_->Stats().spilled_blocks >= 6; });
  std::vector<std::future<int>> readers;
  for (uint64_t block = 0; block < 8; block++) readers.push_back(ReadElsewhere(block));
  target_.Open();
  for (std::future<int>& reader : readers) EXPECT_EQ(0, Get(reader));
  for (uint64_t block = 0; block < 8; block++) ExpectInstant(block);
}

TEST_F(ViewTest, ReadsADoneBlockFromTheTarget) {
  MakeWithView();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  for (uint64_t block = 0; block < kBlocks; block++) Overwrite(block);
  ExpectInstant(0, kSize);
  EXPECT_GE(target_.reads, 1);
}

TEST_F(ViewTest, FailsForAnInvalidBlockAndForNoOther) {
  MakeWithView();
  for (uint64_t block : {20, 22, 21, 7}) {  // joined to a run, in any order
    ClaimAsDriver(block);
    driver_.Publish(block, SNAPBAK_EVENT_INVALID, 0, -EIO);
  }
  log_.Await(NoticeKind::kInvalid, 4);
  for (uint64_t block : {7, 20, 21, 22}) EXPECT_EQ(-EIO, ReadError(block)) << block;
  for (uint64_t block : {6, 8, 19, 23}) ExpectInstant(block);
  std::vector<uint8_t> bytes(3 * kBlock);
  EXPECT_EQ(-EIO, view_->Read(19 * kBlock, bytes.data(), bytes.size()));
}

// A reader that looked at the bits first, and read then, fails here at once: tried.
TEST_F(ViewTest, BelievesABitOnlyAfterItHasReadTheBlock) {
  MakeWithView();
  std::atomic<int> reads{0};
  std::atomic<bool> enough{false};
  std::thread reader([&] {
    std::vector<uint8_t> all(kSize);
    for (; !enough; reads++) {
      ASSERT_EQ(0, view_->Read(0, all.data(), kSize));
      for (uint64_t block = 0; block < kBlocks; block++) {
        ASSERT_EQ(0, std::memcmp(&all[block * kBlock], Origin(block), Bytes(block))) << "block " << block;
      }
    }
  });
  std::vector<uint32_t> slots = {0, 1, 2, 3, 4, 5, 6, 7};
  for (uint64_t block = kBlocks; block-- > kBlocks / 2 && !HasFailure();) {
    const int seen = reads;
    Eventually([&] {
      for (uint32_t slot : driver_.TakeFree()) slots.push_back(slot);
      return !slots.empty() && (reads > seen || HasFailure());
    });
    driver_.Capture(block, slots.back(), Origin(block));  // while it is in a read
    Overwrite(block);
    slots.pop_back();
  }
  enough = true;
  reader.join();
}

// A driver that was killed leaves its bits and its state: whoever serves the image next changes blocks.
TEST_F(ViewTest, BelievesNothingThatItReadBeforeAKilledDriverWasFoundGone) {
  for (int round = 0; round < 100 && !HasFailure(); round++) {
    FakeDriver driver(kSize, kShift, 8);
    NoticeLog log;
    CopySession session(&driver, &driver.library, LowerView{origin_.Duplicate()}, &target_, nullptr,
                        &checksums_, options_, log.Sink());
    ASSERT_EQ(0, session.Prepare({{0, kSize}}));
    snapbak_start start{};
    ASSERT_EQ(0, session.Start(&start));
    ASSERT_EQ(0, session.OpenView(std::shared_ptr<Target>(&target_, [](Target*) {}), &view_));
    std::atomic<int> reads{0};
    std::thread reader([&] {
      std::vector<uint8_t> all(kSize);
      while (view_->Read(0, all.data(), kSize) == 0 && !HasFailure()) {
        EXPECT_TRUE(all == bytes_) << "it is not the start instant";
        reads++;
      }
    });
    Eventually([&] { return reads > 0; });
    driver.Leave();
    log.Await(NoticeKind::kDriverGone);
    for (uint64_t block = kBlocks; block-- > kBlocks / 2;) Overwrite(block);
    reader.join();
    ASSERT_EQ(static_cast<ssize_t>(kSize), pwrite(origin_.fd(), bytes_.data(), kSize, 0));
  }
}

TEST_F(ViewTest, ReadsZeroesWhereNothingIsListed) {
  MakeWithView({{2 * kBlock, kBlock}, {70 * kBlock, 65 * kBlock}});
  std::vector<uint8_t> want(kSize, 0);
  std::copy_n(&bytes_[2 * kBlock], kBlock, &want[2 * kBlock]);
  std::copy_n(&bytes_[70 * kBlock], 65 * kBlock, &want[70 * kBlock]);
  EXPECT_EQ(want, Read(0, kSize));
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  EXPECT_EQ(want, Read(0, kSize));
}

TEST_F(ViewTest, FailsForAPendingBlockThatCannotBeReadAndReadsTheOnesBesideIt) {
  MakeWithView();
  ASSERT_EQ(0, ftruncate(origin_.fd(), 10 * kBlock));
  EXPECT_EQ(-EIO, ReadError(10));
  ExpectInstant(0, 10 * kBlock);
  std::vector<uint8_t> bytes(4 * kBlock);
  EXPECT_EQ(-EIO, view_->Read(8 * kBlock, bytes.data(), bytes.size()));
  // one that was captured before its sector went bad is there all the same
  driver_.Capture(11, 0, Origin(11));
  ExpectInstant(11);
}

TEST_F(ViewTest, ReadsALowerDeviceThatWantsWholeSectors) {
  char path[] = "view-test-XXXXXX";
  UniqueFd file(mkstemp(path));
  ASSERT_TRUE(file.valid());
  const uint64_t offset = 512 * 3;  // where on it the origin begins
  ASSERT_EQ(static_cast<ssize_t>(kSize), pwrite(file.get(), bytes_.data(), kSize, offset));
  ASSERT_EQ(0, ftruncate(file.get(), 512 * ((offset + kSize) / 512 + 1)));
  UniqueFd direct(open(path, O_RDONLY | O_DIRECT));
  ASSERT_EQ(0, unlink(path));
  ASSERT_TRUE(direct.valid()) << "the file system of the working folder has no direct I/O";
  session_ =
      std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{std::move(direct), 512, offset},
                                    &target_, nullptr, &checksums_, options_, log_.Sink());
  ASSERT_EQ(0, session_->Prepare({{0, kSize}}));
  Start();
  ASSERT_EQ(0, OpenView(&view_));
  ExpectInstant(0, kSize);
  ExpectInstant(kBlock + 1, 513);
  ExpectInstant(kSize - 3, 3);
}

// --- who comes first

// The reader holds the lock of the queue from its first look until it sleeps: whoever takes afterwards takes
// what it has asked for.
TEST(ViewOrder, APlaceThatAReaderWaitsForIsDrainedBeforeAllButWantedBlocks) {
  TestFile file(0);
  Tier2Set tiers([&] {
    std::vector<std::unique_ptr<Tier2>> list;
    list.push_back(
        std::make_unique<Tier2>(file.Duplicate(), false, std::vector<Extent>{{0, 16 * kBlock}}, kBlock));
    return list;
  }());
  std::vector<__u64> bitmap(1);
  CopyCounters counters;
  JobQueue jobs(bitmap.data(), 64, kBlock, 8, &tiers, &counters, 4, 0);
  jobs.SetArmed();
  for (uint32_t block = 0; block < 6; block++) jobs.AddSpilled({block, {0, block}, 0});
  ASSERT_TRUE(jobs.AddEvents({{10, 0}}, {11}));

  std::promise<void> looked, late;
  std::atomic<int> looks{0};
  std::atomic<bool> done{false};
  auto settled = [&](std::promise<void>* first) {
    return [&, first, told = false]() mutable {
      if (!std::exchange(told, true)) first->set_value();
      looks++;
      return done.load();
    };
  };
  auto nothing = [](uint32_t) { FAIL() << "it is in no slot"; };
  std::thread reader(
      [&] { EXPECT_EQ(JobQueue::Found::kSettled, jobs.AwaitBlock(4, settled(&looked), nothing)); });
  std::thread other(
      [&] { EXPECT_EQ(JobQueue::Found::kSettled, jobs.AwaitBlock(20, settled(&late), nothing)); });
  looked.get_future().wait();
  late.get_future().wait();

  Job job;
  ASSERT_TRUE(jobs.Take(&job));
  EXPECT_EQ(Job::Kind::kWanted, job.kind);
  ASSERT_TRUE(jobs.Take(&job));
  EXPECT_EQ(Job::Kind::kSpilled, job.kind);
  EXPECT_EQ(4u, job.spilled.block);
  jobs.AddSpilled({20, {0, 6}, 0});  // came to the tier after its reader
  ASSERT_TRUE(jobs.Take(&job));
  EXPECT_EQ(Job::Kind::kSpilled, job.kind);
  EXPECT_EQ(20u, job.spilled.block);
  ASSERT_TRUE(jobs.Take(&job));
  EXPECT_EQ(Job::Kind::kCaptured, job.kind);
  done = true;
  jobs.WakeReadersIfAny();
  reader.join();
  other.join();
  for (uint64_t block : {0, 1, 2, 3, 5}) {  // the others, each once
    ASSERT_TRUE(jobs.Take(&job));
    ASSERT_EQ(Job::Kind::kSpilled, job.kind);
    EXPECT_EQ(block, job.spilled.block);
  }
}

// --- the end, while readers wait

class ViewEndTest : public ViewTest {
 protected:
  // Two readers wait for a block whose event never comes.
  void Begin() {
    MakeWithView();
    ClaimAsDriver(4);
    for (int i = 0; i < 2; i++) readers_.push_back(ReadElsewhere(4));
    EXPECT_EQ(std::future_status::timeout, readers_[0].wait_for(std::chrono::milliseconds(20)));
  }
  void ExpectShutdown() {
    for (std::future<int>& reader : readers_) EXPECT_EQ(-ESHUTDOWN, Get(reader));
    readers_.clear();
    for (uint64_t block : {0, 4, 9}) EXPECT_EQ(-ESHUTDOWN, ReadError(block)) << block;
  }
  std::vector<std::future<int>> readers_;
};

TEST_F(ViewEndTest, ABrokenSessionSendsReadersBack) {
  Begin();
  driver_.SetState(SNAPBAK_STATE_BROKEN, SNAPBAK_REASON_HOLD_TIMEOUT);
  ExpectShutdown();
}

TEST_F(ViewEndTest, ADriverThatIsGoneSendsReadersBack) {
  Begin();
  driver_.Leave();
  ExpectShutdown();
}

TEST_F(ViewEndTest, ATargetThatFailsSendsReadersBack) {
  Begin();
  target_.FailNext(1000000, -EIO);
  session_->PushWork({{0, kBlock}}, false);
  ExpectShutdown();
}

TEST_F(ViewEndTest, StoppingSendsReadersBack) {
  Begin();
  session_->Stop();
  ExpectShutdown();
  session_.reset();
  ExpectShutdown();
}

TEST_F(ViewEndTest, ShuttingTheViewSendsItsReadersBackAndNobodyElses) {
  Begin();
  std::unique_ptr<PointInTimeView> other;
  ASSERT_EQ(0, OpenView(&other));
  view_->Shutdown();
  ExpectShutdown();
  view_ = std::move(other);
  ExpectInstant(9);
  driver_.Publish(4, SNAPBAK_EVENT_INVALID, 0, -EIO);
  EXPECT_EQ(-EIO, ReadError(4));
}

// Its thread has passed by the view's own look, and the target does not know of it yet.
TEST_F(ViewEndTest, ShuttingTheViewSendsBackAReadThatIsAboutToBegin) {
  MakeWithView();
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  target_.before_read = [this](const std::atomic<bool>& stop) {
    EXPECT_FALSE(stop);
    view_->Shutdown();
    EXPECT_TRUE(stop);
  };
  EXPECT_EQ(-ESHUTDOWN, ReadError(9));
  EXPECT_EQ(0, target_.reads);
}

TEST_F(ViewEndTest, ABitThatIsStillSetIsWorthNothingOnceTheSessionIsBroken) {
  MakeWithView();
  driver_.SetState(SNAPBAK_STATE_BROKEN, SNAPBAK_REASON_ABORTED);
  Overwrite(9);  // a write that found the session broken clears no bit
  EXPECT_EQ(-ESHUTDOWN, ReadError(9));
}

TEST_F(ViewEndTest, AFinishedSessionLeavesTheViewOnTheTarget) {
  MakeWithView({{0, 150 * kBlock}});
  ClaimAsDriver(4);
  driver_.Publish(4, SNAPBAK_EVENT_INVALID, 0, -EIO);
  session_->PushWork({{0, kSize}}, false);
  log_.Await(NoticeKind::kComplete);
  driver_.SetState(SNAPBAK_STATE_FINISHED);
  session_->Stop();
  session_.reset();
  for (uint64_t block = 0; block < kBlocks; block++) Overwrite(block);
  ExpectInstant(5 * kBlock, 145 * kBlock);
  EXPECT_EQ(-EIO, ReadError(4));
  EXPECT_EQ(std::vector<uint8_t>(kBlock, 0), Read(160 * kBlock, kBlock));
  view_->Shutdown();
  EXPECT_EQ(-ESHUTDOWN, ReadError(5));
}

// --- what it holds

class ViewCloseTest : public ViewTest {
 protected:
  void BeginAndFinish() {
    MakeAndStart();
    auto target = std::shared_ptr<Target>(&target_, [](Target*) {});
    held_ = target;
    ASSERT_EQ(0, session_->OpenView(std::move(target), &view_));
    session_->PushWork({{0, kSize}}, false);
    log_.Await(NoticeKind::kComplete);
    driver_.SetState(SNAPBAK_STATE_FINISHED);
    session_->Stop();
    session_.reset();
  }

  std::weak_ptr<Target> held_;
};

TEST_F(ViewCloseTest, GivesTheTargetBackWhenItIsClosedAndNotBefore) {
  BeginAndFinish();
  ExpectInstant(0, kSize);
  view_->Shutdown();
  EXPECT_FALSE(held_.expired());
  view_->Close();
  EXPECT_TRUE(held_.expired());
  view_->Shutdown();
  view_->Close();
  EXPECT_EQ(-ESHUTDOWN, ReadError(5));
}

TEST_F(ViewCloseTest, LeavesTheTargetToAReadThatIsStillInside) {
  BeginAndFinish();
  target_.before_read = [this](const std::atomic<bool>&) {
    view_->Shutdown();
    view_->Close();
    EXPECT_FALSE(held_.expired());
  };
  EXPECT_EQ(-ESHUTDOWN, ReadError(9));
  EXPECT_TRUE(held_.expired());
}

TEST_F(ViewCloseTest, IsClosedBesideReadersAndASecondShutdown) {
  BeginAndFinish();
  std::vector<std::future<int>> readers;
  std::atomic<int> reads{0};
  for (int i = 0; i < 4; i++) {
    readers.push_back(std::async(std::launch::async, [this, &reads] {
      std::vector<uint8_t> bytes(kSize);
      int error = 0;
      for (; error == 0; reads++) error = view_->Read(0, bytes.data(), kSize);
      return error;
    }));
  }
  Eventually([&] { return reads >= 20; });
  view_->Shutdown();
  std::thread beside([this] { view_->Shutdown(); });
  view_->Close();
  beside.join();
  for (std::future<int>& reader : readers) EXPECT_EQ(-ESHUTDOWN, Get(reader));
  EXPECT_TRUE(held_.expired());
}

// --- what is refused

TEST_F(ViewTest, IsRefusedBeforeTheStartAndWithATargetThatCannotBeRead) {
  Make();
  EXPECT_EQ(-EINVAL, OpenView(&view_));
  Start();
  target_.may_be_read = false;
  EXPECT_EQ(-EOPNOTSUPP, OpenView(&view_));
  target_.may_be_read = true;
  EXPECT_EQ(0, OpenView(&view_));
  uint8_t byte = 0;
  EXPECT_EQ(-EROFS, view_->Write(0, &byte, 1, false));
  EXPECT_EQ(-EROFS, view_->WriteZeroes(0, 1, false));
  EXPECT_EQ(-EINVAL, view_->Read(kSize, &byte, 1));
  EXPECT_EQ(-EINVAL, view_->Read(UINT64_MAX, &byte, 1));
  EXPECT_EQ(0, view_->Read(kSize, &byte, 0));
  session_->Stop();
  driver_.SetState(SNAPBAK_STATE_BROKEN);
  EXPECT_EQ(-ESHUTDOWN, OpenView(&view_));
}

}  // namespace
}  // namespace snapbak
