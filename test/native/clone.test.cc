// SPDX-License-Identifier: MIT
// The clone of a backup: every byte of it is the start instant's or a client's,
// whoever brings it; no copy thread waits for a client; and no client waits for
// what does not come any more. With many threads: copy-stress.test.cc.
#include "native/copy/clone.h"

#include <sys/stat.h>

#include <future>

#include "copy-session-fixture.h"
#include "native/copy/block_writer.h"
#include "native/copy/job_queue.h"

namespace snapbak {
namespace {

constexpr uint8_t kJunk = 0xee;    // what the destination held before
constexpr uint8_t kClient = 0x99;  // what clients write

int NotHere(uint64_t, uint64_t, uint64_t) { return -EEXIST; }

// A clone one of whose clients can be stopped in the middle of its write.
class TestClone : public Clone {
 public:
  using Clone::Clone;

  // Holds the claim over whole blocks that are not here until `go` says how the write ends.
  int WriteHeld(uint64_t block, uint64_t count, std::promise<void>* begun, std::future<int> go) {
    const auto claimed = [&](uint64_t offset, uint64_t length, uint64_t) {
      begun->set_value();
      const int error = go.get();
      const std::vector<uint8_t> data(length, kClient);
      const int written = destination_.Write(data.data(), length, offset, false);
      return error != 0 ? error : written;
    };
    return Apply(block * kBlock, count * kBlock, false, {NotHere, claimed, true});
  }

  // A write of a whole block that is not here, and does `inside` with its claim.
  int WriteWhole(uint64_t block, const std::function<void()>& inside) {
    const auto claimed = [&](uint64_t, uint64_t, uint64_t) {
      inside();
      return 0;
    };
    return Apply(block * kBlock, kBlock, false, {NotHere, claimed, true});
  }

  // As a fault of ours might.
  void Forget(uint64_t block) {
    here_.Clear(block);
    missing_++;
  }

  int Sync() override {
    syncs++;
    return Clone::Sync();
  }
  std::atomic<int> syncs{0};
};

class CloneTest : public CopySessionTest {
 protected:
  void MakeWithClone(const std::vector<Extent>& listed = {{0, kSize}}, bool fresh = false) {
    if (!fresh) {
      const std::vector<uint8_t> junk(kSize, kJunk);
      ASSERT_EQ(static_cast<ssize_t>(kSize), pwrite(destination_.fd(), junk.data(), kSize, 0));
    }
    clone_ = OpenClone(kSize, kBlock, fresh);
    session_ = std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{origin_.Duplicate()},
                                             &target_, tiers_.get(), &checksums_, options_, log_.Sink());
    ASSERT_EQ(0, session_->SetClone(clone_));
    ASSERT_EQ(0, session_->Prepare(listed));
    Start();
  }
  std::shared_ptr<TestClone> OpenClone(uint64_t size, uint32_t block_size, bool fresh) {
    LowerDevice device;
    EXPECT_EQ(0, LowerDevice::Adopt(destination_.Duplicate(), "clone", false, &device));
    return std::make_shared<TestClone>(std::move(device), size, block_size, fresh, [this](int error) {
      EXPECT_EQ(0, lost_.exchange(error)) << "told twice";
    });
  }
  void CopyAll() {
    session_->PushWork({{0, kSize}}, false);
    log_.Await(NoticeKind::kComplete);
  }
  void EndSession() {
    driver_.SetState(SNAPBAK_STATE_FINISHED);
    session_->Stop();
    session_.reset();
  }
  // As a write does it, up to where the event would be published.
  void ClaimAsDriver(uint64_t block) {
    ASSERT_TRUE(snapbak_bitmap_test_and_clear(driver_.mine.bitmap(), block));
  }

  std::vector<uint8_t> Read(uint64_t offset, uint64_t length) {
    std::vector<uint8_t> bytes(length, 0x5a);
    EXPECT_EQ(0, clone_->Read(offset, bytes.data(), length)) << offset;
    return bytes;
  }
  int ReadError(uint64_t block) {
    std::vector<uint8_t> bytes(Bytes(block));
    return clone_->Read(block * kBlock, bytes.data(), bytes.size());
  }
  int Write(uint64_t offset, uint64_t length, bool fua = false) {
    const std::vector<uint8_t> bytes(length, kClient);
    return clone_->Write(offset, bytes.data(), length, fua);
  }
  std::future<int> ReadElsewhere(uint64_t block) {
    return std::async(std::launch::async, [this, block] { return ReadError(block); });
  }
  // Comes back when the client is inside; `go` says how its write ends.
  std::future<int> WriteHeldElsewhere(uint64_t block, uint64_t count, std::promise<int>* go) {
    std::promise<void> begun;
    std::future<void> inside = begun.get_future();
    auto write = [this, block, count, go, begun = std::move(begun)]() mutable {
      return clone_->WriteHeld(block, count, &begun, go->get_future());
    };
    std::future<int> writer = std::async(std::launch::async, std::move(write));
    inside.wait();
    return writer;
  }
  static int Get(std::future<int>& future) {
    if (future.wait_for(std::chrono::seconds(60)) == std::future_status::ready) return future.get();
    ADD_FAILURE() << "the client does not come back";
    std::abort();  // its future would wait for ever
  }
  // It is inside, and waits.
  void AwaitDemands(uint64_t count) {
    Eventually([&] { return clone_->Stats().demands >= count; });
    (void)session_->Stats();  // takes the lock under which it is counted and asked for
  }
  // A block each keeps the copiers, two at most, in the target until it is opened.
  void KeepCopiersBusy() {
    target_.Shut();
    for (uint32_t slot = 0; slot < options_.copy_threads; slot++) {
      driver_.Capture(kBlocks - 2 - slot, slot, Origin(kBlocks - 2 - slot));
    }
    target_.AwaitInside(options_.copy_threads);
  }
  // Behind those that were under way. Of one copier: with two, either may be the faster one.
  void ExpectNext(uint64_t block) {
    Eventually([&] { return target_.Order().size() > options_.copy_threads; });
    EXPECT_EQ(block * kBlock, target_.Order()[options_.copy_threads]);
  }
  void ExpectClone(const std::vector<uint8_t>& want) {
    EXPECT_EQ(want, Read(0, kSize));
    EXPECT_EQ(want, destination_.Read(0, kSize));
  }

  TestFile destination_{kSize};
  std::atomic<int> lost_{0};
  std::shared_ptr<TestClone> clone_;
};

// --- a block comes

TEST_F(CloneTest, GetsEveryBlockThatIsCopiedWhereverItComesFrom) {
  UseTier2(64);
  MakeWithClone();
  KeepCopiersBusy();
  for (uint32_t slot = 2; slot < 8; slot++)
    driver_.Capture(slot, slot, Origin(slot));  // spilled, or in slots
  target_.Open();
  CopyAll();
  EXPECT_EQ(0, clone_->Finish());
  ExpectClone(bytes_);
  ExpectAllCopied();
  const CloneStats stats = clone_->Stats();
  EXPECT_EQ(kBlocks, stats.total);
  EXPECT_EQ(kBlocks, stats.here);
  EXPECT_EQ(0u, stats.bad + stats.demands + stats.written);
  EndSession();
  ExpectClone(bytes_);
  EXPECT_EQ(0, Write(kBlock, 10, true));
  EXPECT_EQ(0, clone_->Close());
  EXPECT_EQ(std::vector<uint8_t>(10, kClient), destination_.Read(kBlock, 10));
  EXPECT_EQ(0, lost_);
}

TEST_F(CloneTest, LeavesZeroesAwayWhereTheDestinationHasThem) {
  MakeWithClone({{0, kSize}}, true);
  CopyAll();
  ExpectClone(bytes_);
  EXPECT_EQ(static_cast<off_t>(10 * kBlock), lseek(destination_.fd(), 7 * kBlock, SEEK_DATA))
      << "zero blocks were written";
}

TEST_F(CloneTest, HasWhatTheDestinationHadWhereNothingIsListed) {
  MakeWithClone({{2 * kBlock, kBlock}, {70 * kBlock, 65 * kBlock}});
  EXPECT_EQ(66u, clone_->Stats().total);
  EXPECT_EQ(std::vector<uint8_t>(50, kJunk), Read(5 * kBlock - 20, 50)) << "nobody brings it: do not wait";
  EXPECT_EQ(0, Write(6 * kBlock + 5, 10));
  CopyAll();
  std::vector<uint8_t> want(kSize, kJunk);
  std::copy_n(&bytes_[2 * kBlock], kBlock, &want[2 * kBlock]);
  std::copy_n(&bytes_[70 * kBlock], 65 * kBlock, &want[70 * kBlock]);
  std::fill_n(&want[6 * kBlock + 5], 10, kClient);
  ExpectClone(want);
  EXPECT_EQ(66u, clone_->Stats().here);
}

// --- a client wants it before

TEST_F(CloneTest, BringsAPendingBlockThatIsReadAndNothingElse) {
  MakeWithClone();
  session_->SetPaused(true);  // clients do not wait for the sweep
  for (const auto& [offset, length] : {std::pair{3 * kBlock + 5, 10ul},
                                       {50 * kBlock - 1, 2ul},
                                       {kSize - 1, 1ul},
                                       {100 * kBlock, 9 * kBlock}}) {
    EXPECT_EQ(std::vector<uint8_t>(&bytes_[offset], &bytes_[offset] + length), Read(offset, length));
  }
  EXPECT_EQ(1u + 2 + 1 + 9, clone_->Stats().here);
  EXPECT_EQ(13u, session_->Stats().swept_blocks);
  EXPECT_EQ(kJunk, destination_.Read(4 * kBlock, 1)[0]);
  EXPECT_EQ(0, Write(20 * kBlock + 7, 100));  // a part: the rest of the block comes
  auto want = bytes_;
  std::fill_n(&want[20 * kBlock + 7], 100, kClient);
  session_->SetPaused(false);
  CopyAll();
  ExpectClone(want);
}

TEST_F(CloneTest, DrainsACapturedBlockThatIsReadBeforeTheOthers) {
  options_.copy_threads = 1;
  MakeWithClone();
  KeepCopiersBusy();
  for (uint32_t slot = 2; slot < 8; slot++) driver_.Capture(slot, slot, Origin(slot));
  Eventually([&] { return session_->Stats().slots_used == 7; });
  std::future<int> reader = ReadElsewhere(6);
  AwaitDemands(1);
  std::future<int> late = ReadElsewhere(30);  // captured after it was asked for
  ClaimAsDriver(30);
  target_.Open();
  EXPECT_EQ(0, Get(reader));
  ExpectNext(6);
  for (uint32_t slot : driver_.TakeFree()) {
    std::memcpy(driver_.mine.slot(slot), Origin(30), kBlock);
    driver_.Publish(30, SNAPBAK_EVENT_CAPTURED, slot);
    break;
  }
  EXPECT_EQ(0, Get(late));
}

TEST_F(CloneTest, DrainsASpilledBlockThatIsRead) {
  options_.copy_threads = 1;
  UseTier2(64);
  MakeWithClone();
  KeepCopiersBusy();
  for (uint32_t slot = 2; slot < 8; slot++) driver_.Capture(slot, slot, Origin(slot));
  Eventually([&] { return session_->Stats().spilled_blocks >= 6; });
  std::future<int> reader = ReadElsewhere(6);
  AwaitDemands(1);
  target_.Open();
  EXPECT_EQ(0, Get(reader));
  ExpectNext(6);
  EXPECT_EQ(std::vector<uint8_t>(Origin(6), Origin(7)), Read(6 * kBlock, kBlock));
}

TEST_F(CloneTest, GetsNothingThatIsReadAfterTheDriverLetWritesPass) {
  MakeWithClone();
  // Broken, and nobody has told the library yet. Bits stay set, and blocks change.
  snapbak_store_release(&driver_.mine.header()->state, static_cast<__u32>(SNAPBAK_STATE_BROKEN));
  session_->PushWork({{0, kSize}}, false);
  // or it finds out by itself, and sweeps no more
  Eventually(
      [&] { return session_->Stats().swept_blocks == kBlocks || log_.Count(NoticeKind::kBroken) > 0; });
  session_->Stop();
  EXPECT_EQ(std::vector<uint8_t>(kSize, kJunk), destination_.Read(0, kSize));
  EXPECT_EQ(0u, clone_->Stats().here);
  EXPECT_TRUE(target_.Order().empty());
  EXPECT_EQ(0u, session_->Stats().done_blocks);
}

TEST_F(CloneTest, GetsNothingOnceAKilledDriverIsFoundGoneWhoseStateStaysArmed) {
  clone_ = OpenClone(kSize, kBlock, true);
  CopyState state(&driver_, &driver_.library, LowerView{origin_.Duplicate()}, &target_, nullptr, &checksums_,
                  options_, log_.Sink());
  ASSERT_EQ(0, clone_->Attach(kSize, kBlock, state.view_gate));
  ASSERT_EQ(0, state.fates->Allocate(kBlocks));
  state.clone = clone_;
  driver_.SetState(SNAPBAK_STATE_ARMED);
  BlockWriter writer(&state);
  EXPECT_EQ(0, writer.Write(3, 2, Origin(3)));
  state.FailSession(NoticeKind::kDriverGone, -ECONNRESET, 0);
  EXPECT_EQ(-ECANCELED, writer.Write(5, 2, Origin(5)));
  EXPECT_EQ(-ECANCELED, writer.WriteHole(7, 3));
  EXPECT_EQ(2u, clone_->Stats().here);
  state.view_gate->Shut(false);
}

TEST(CloneOrder, WhatIsAskedForIsSweptAfterWantedBlocksTakingTurnsWithSlotsBeforeOtherWork) {
  std::vector<__u64> bitmap(1, ~0ull);
  CopyCounters counters;
  counters.listed = 64;
  JobQueue jobs(bitmap.data(), 64, kBlock, 8, nullptr, &counters, 4, 0);
  for (uint64_t captured : {1, 2, 3}) snapbak_bitmap_test_and_clear(bitmap.data(), captured);
  ASSERT_TRUE(jobs.AddEvents({{1, 0}, {2, 1}, {3, 2}}, {60}));
  jobs.PushWork({{40 * kBlock, 8 * kBlock}}, true);
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (uint64_t block : {10, 20, 20, 30}) {
    std::promise<void> looked;
    readers.emplace_back([&jobs, &done, &looked, block] {
      bool told = false;
      EXPECT_EQ(JobQueue::Found::kSettled, jobs.AwaitDemand({block, 9}, [&] {
        if (!std::exchange(told, true)) looked.set_value();
        return done.load();
      }));
    });
    looked.get_future().wait();
    (void)jobs.slots_used();  // it has the lock from its look until it sleeps
  }
  jobs.SetPaused(true);
  jobs.SetArmed();
  Job job;
  const auto take = [&] {
    EXPECT_TRUE(jobs.Take(&job));
    return job.kind;
  };
  EXPECT_EQ(Job::Kind::kWanted, take());
  for (uint64_t block : {10, 20}) {
    ASSERT_EQ(Job::Kind::kSweep, take());
    EXPECT_EQ(block, job.run.first);
    EXPECT_EQ(4u, job.run.count) << "more than a copier can hold, or less than was asked for";
    snapbak_bitmap_claim(bitmap.data(), block, 4);
    ASSERT_EQ(Job::Kind::kCaptured, take());
  }
  ASSERT_EQ(Job::Kind::kSweep, take());
  EXPECT_EQ(30u, job.run.first) << "two asked for 20, and it is not pending any more";
  ASSERT_EQ(Job::Kind::kCaptured, take());
  jobs.SetPaused(false);
  ASSERT_EQ(Job::Kind::kSweep, take());
  EXPECT_EQ(40u, job.run.first);
  done = true;
  jobs.WakeReadersIfAny();
  for (std::thread& reader : readers) reader.join();
}

// The second tier has failed, or is full by now.
TEST(CloneOrder, ABlockThatIsAskedForWhileTheSpillerHasItIsUrgentWhenItComesBack) {
  const TestFile file(0);
  std::vector<std::unique_ptr<Tier2>> one;
  one.push_back(std::make_unique<Tier2>(file.Duplicate(), false, std::vector<Extent>{{0, kBlock}}, kBlock));
  const Tier2Set tiers(std::move(one));
  std::vector<__u64> bitmap(1, ~0ull);
  CopyCounters counters;
  counters.listed = 64;
  JobQueue jobs(bitmap.data(), 64, kBlock, 8, &tiers, &counters, 4, 1);
  for (uint64_t captured : {1, 2}) snapbak_bitmap_test_and_clear(bitmap.data(), captured);
  ASSERT_TRUE(jobs.AddEvents({{1, 0}, {2, 1}}, {}));
  jobs.PushWork({{40 * kBlock, 8 * kBlock}}, false);
  CapturedBlock spilling{};
  ASSERT_TRUE(jobs.TakeForSpill(&spilling));
  ASSERT_EQ(1u, spilling.block);
  Job job;
  ASSERT_TRUE(jobs.Take(&job));
  ASSERT_EQ(2u, job.captured.block);
  jobs.SlotReturned(1);  // no slot need be drained before the sweep
  std::atomic<bool> done{false};
  std::promise<void> looked;
  std::thread reader([&] {
    bool told = false;
    EXPECT_EQ(JobQueue::Found::kSettled, jobs.AwaitDemand({1, 1}, [&] {
      if (!std::exchange(told, true)) looked.set_value();
      return done.load();
    }));
  });
  looked.get_future().wait();
  (void)jobs.slots_used();  // it has the lock from its look until it sleeps
  jobs.SetArmed();
  jobs.PutBack(spilling);
  ASSERT_TRUE(jobs.Take(&job));
  EXPECT_EQ(Job::Kind::kCaptured, job.kind) << "it waits for all of the sweep";
  EXPECT_EQ(1u, job.captured.block);
  done = true;
  jobs.WakeReadersIfAny();
  reader.join();
}

TEST(FixedQueueTest, TakesOneOutOfTurnWhereverTheQueueBegins) {
  for (int begin = 0; begin < 5; begin++) {
    for (int out = 0; out < 5; out++) {
      FixedQueue<int> queue(5);
      for (int i = 0; i < begin; i++) {
        queue.PushBack(99);
        queue.PopFront();
      }
      for (int i = 0; i < 5; i++) queue.PushBack(i);
      int item = -1;
      EXPECT_FALSE(queue.Take([](int i) { return i == 7; }, &item));
      ASSERT_TRUE(queue.Take([out](int i) { return i == out; }, &item));
      EXPECT_EQ(out, item);
      ASSERT_EQ(4u, queue.size());
      for (int i = 0; i < 5; i++) {
        if (i == out) continue;
        EXPECT_EQ(i, queue.PopFront()) << begin << " " << out;
      }
    }
  }
}

// --- a client writes

TEST_F(CloneTest, KeepsWhatClientsWriteBeforeAndAfterABlockComes) {
  MakeWithClone();
  EXPECT_EQ(0, Write(10 * kBlock - 100, 3 * kBlock + 200));  // two whole blocks, two parts, 12 not at all
  EXPECT_EQ(0, clone_->WriteZeroes(30 * kBlock, kBlock + 5, true));
  EXPECT_EQ(0, Write((kBlocks - 1) * kBlock, 1234)) << "the short last block as a whole";
  EXPECT_EQ(0, clone_->Discard(40 * kBlock, 3 * kBlock)) << "advice";
  EXPECT_EQ(3u + 1 + 1, clone_->Stats().written);
  EXPECT_EQ(3u, clone_->Stats().demands);
  auto want = bytes_;
  std::fill_n(&want[10 * kBlock - 100], 3 * kBlock + 200, kClient);
  std::fill_n(&want[30 * kBlock], kBlock + 5, 0);
  std::fill_n(&want[(kBlocks - 1) * kBlock], 1234, kClient);
  CopyAll();
  ExpectClone(want);
  EXPECT_EQ(0, Write(5 * kBlock, kBlock));
  std::fill_n(&want[5 * kBlock], kBlock, kClient);
  EXPECT_EQ(0, clone_->Discard(50 * kBlock, kBlock));  // it is here, and a file that has holes
  std::fill_n(&want[50 * kBlock], kBlock, 0);
  EXPECT_EQ(0, clone_->Flush());
  ExpectClone(want);
  ExpectAllCopied();  // and none of it is in the backup
}

TEST_F(CloneTest, NoCopyThreadWaitsForAClientThatWrites) {
  MakeWithClone();
  std::promise<int> go;
  std::future<int> writer = WriteHeldElsewhere(20, 10, &go);
  CopyAll();
  ExpectAllCopied();
  EXPECT_EQ(10u, clone_->Stats().bad) << "until the client's write has succeeded";
  std::future<int> reader = ReadElsewhere(25);
  auto finish = std::async(std::launch::async, [&] { return clone_->Finish(); });
  EXPECT_EQ(std::future_status::timeout, reader.wait_for(std::chrono::milliseconds(20)));
  EXPECT_EQ(std::future_status::timeout, finish.wait_for(std::chrono::milliseconds(0)));
  go.set_value(0);
  EXPECT_EQ(0, Get(writer));
  EXPECT_EQ(0, Get(reader));
  EXPECT_EQ(0, Get(finish));
  auto want = bytes_;
  std::fill_n(&want[20 * kBlock], 10 * kBlock, kClient);
  ExpectClone(want);
  EXPECT_EQ(0u, clone_->Stats().bad);
  EXPECT_EQ(kBlocks, clone_->Stats().here);
}

TEST_F(CloneTest, ABlockWhoseWriteFailsComesStillOrIsAnErrorIfItWasDropped) {
  MakeWithClone();
  std::promise<int> go;
  std::future<int> writer = WriteHeldElsewhere(20, 10, &go);
  session_->PushWork({{24 * kBlock, 2 * kBlock}}, false);
  Eventually([&] { return session_->Stats().done_blocks == 2; });
  go.set_value(-ENOSPC);
  EXPECT_EQ(-ENOSPC, Get(writer));
  EXPECT_EQ(0, lost_) << "a client's error is the client's";
  CopyAll();
  for (uint64_t block = 0; block < kBlocks; block++) {
    EXPECT_EQ(block == 24 || block == 25 ? -EIO : 0, ReadError(block)) << block;
  }
  EXPECT_EQ(-EIO, Write(24 * kBlock + 1, 1));
  EXPECT_EQ(0, Write(24 * kBlock, 2 * kBlock));
  auto want = bytes_;
  std::fill_n(&want[24 * kBlock], 2 * kBlock, kClient);
  ExpectClone(want);
}

TEST_F(CloneTest, AWholeWriteSendsBackWhoWaitsForTheBlock) {
  MakeWithClone();
  ClaimAsDriver(4);  // its event never comes
  std::future<int> reader = ReadElsewhere(4);
  AwaitDemands(1);
  EXPECT_EQ(0, Write(4 * kBlock, kBlock));
  EXPECT_EQ(0, Get(reader));
}

TEST_F(CloneTest, ZeroesAreWrittenWhereAWriteFailedOnAFreshDestination) {
  MakeWithClone({{0, kSize}}, true);
  std::promise<int> go;
  std::future<int> writer = WriteHeldElsewhere(8, 1, &go);  // a zero block of the origin
  go.set_value(-ENOSPC);
  EXPECT_EQ(-ENOSPC, Get(writer));
  CopyAll();
  ExpectClone(bytes_);
}

// A client says that its block is here without the lock that a copy thread looks under.
TEST(CloneRun, ABlockThatAClientWritesMeanwhileTakesNoOtherAlong) {
  constexpr uint64_t kMany = 1u << 20;  // to look at so many takes some microseconds
  const TestFile file(kMany * kBlock);
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto until = now() + std::chrono::seconds(1);
  for (int round = 0; (round < 50 || now() < until) && !testing::Test::HasFailure(); round++) {
    LowerDevice device;
    ASSERT_EQ(0, LowerDevice::Adopt(file.Duplicate(), "clone", false, &device));
    TestClone clone(std::move(device), kMany * kBlock, kBlock, true, [](int) { ADD_FAILURE() << "lost"; });
    std::atomic<int> ready{0};
    std::thread client([&] {
      EXPECT_EQ(0, clone.WriteWhole(0, [&] {
        for (ready++; ready < 2;) std::this_thread::yield();
        for (volatile int late = round % 100 * 30; late > 0;) late = late - 1;
      }));
    });
    while (ready < 1) std::this_thread::yield();
    ready++;
    clone.Put(0, kMany, nullptr);
    client.join();
    const CloneStats stats = clone.Stats();
    EXPECT_EQ(kMany, stats.here) << "blocks are lost on their way, in round " << round;
    EXPECT_EQ(0u, stats.bad);
    EXPECT_EQ(1u, stats.written);
  }
}

// --- a block does not come

TEST_F(CloneTest, AnInvalidBlockIsAnErrorUntilItIsWrittenWhole) {
  MakeWithClone();
  ClaimAsDriver(9);
  ClaimAsDriver(11);
  std::future<int> waits = ReadElsewhere(9);
  AwaitDemands(1);
  EXPECT_EQ(0, Write(11 * kBlock, kBlock));
  for (uint64_t block : {9, 11}) driver_.Publish(block, SNAPBAK_EVENT_INVALID, 0, -EIO);
  EXPECT_EQ(-EIO, Get(waits));
  CopyAll();
  EXPECT_EQ(1u, clone_->Stats().bad);
  EXPECT_EQ(0, ReadError(11));
  std::vector<uint8_t> bytes(3 * kBlock);
  EXPECT_EQ(-EIO, clone_->Read(8 * kBlock, bytes.data(), bytes.size()));
  EndSession();
  EXPECT_EQ(-EIO, ReadError(9));
  EXPECT_EQ(0, Write(9 * kBlock, kBlock));
  EXPECT_EQ(0, ReadError(9));
  EXPECT_EQ(0u, clone_->Stats().bad);
}

TEST_F(CloneTest, ABlockThatIsUnlistedIsNotWaitedFor) {
  MakeWithClone();
  KeepCopiersBusy();
  std::future<int> waits = ReadElsewhere(50);
  AwaitDemands(1);
  std::vector<Extent> taken;
  ASSERT_EQ(0, session_->Unlist({{50 * kBlock, 100 * kBlock}}, &taken));
  EXPECT_EQ(0, Get(waits));
  EXPECT_EQ(std::vector<uint8_t>(100 * kBlock, kJunk), Read(50 * kBlock, 100 * kBlock));
  EXPECT_EQ(0, Write(60 * kBlock + 1, 1));
  target_.Open();
  CopyAll();
  auto want = bytes_;
  std::fill_n(&want[50 * kBlock], 100 * kBlock, kJunk);
  want[60 * kBlock + 1] = kClient;
  ExpectClone(want);
  EXPECT_EQ(kBlocks - 100, clone_->Stats().total);
  EXPECT_EQ(kBlocks - 100, clone_->Stats().here);
}

TEST(CloneRun, NoMoreBlocksAreHereThanThereAreWhileSomeAreUnlisted) {
  constexpr uint64_t kMany = 1u << 18;
  const TestFile file(kMany * kBlock);
  LowerDevice device;
  ASSERT_EQ(0, LowerDevice::Adopt(file.Duplicate(), "clone", false, &device));
  Clone clone(std::move(device), kMany * kBlock, kBlock, true, nullptr);
  std::atomic<bool> done{false};
  std::thread unlister([&] {
    for (uint64_t block = 0; block < kMany; block++) clone.Unlisted(block, 1);
    done = true;
  });
  uint64_t most = 0;
  while (!done) most = std::max(most, clone.Stats().here);
  unlister.join();
  EXPECT_EQ(0u, most) << "nobody has brought any";
  EXPECT_EQ(0u, clone.Stats().total);
}

// --- it is lost

TEST_F(CloneTest, IsLostWithItsDestinationAndTheBackupGoesOn) {
  MakeWithClone();
  KeepCopiersBusy();
  std::future<int> waits = ReadElsewhere(50);
  AwaitDemands(1);
  destination_.RefuseWrites();
  target_.Open();
  EXPECT_EQ(-EIO, Get(waits));
  CopyAll();
  ExpectAllCopied();
  EXPECT_EQ(-EPERM, lost_);
  EXPECT_EQ(-EIO, ReadError(kBlocks - 2)) << "one that is here";
  EXPECT_EQ(-EIO, Write(0, kBlock));
  EXPECT_EQ(-EIO, clone_->Flush());
  EXPECT_EQ(-EIO, clone_->Finish());
  EXPECT_EQ(0, clone_->Close());
}

TEST_F(CloneTest, ThatLacksABlockAtTheEndIsLostAndNotCalledWhole) {
  MakeWithClone();
  CopyAll();
  clone_->Forget(5);
  EXPECT_EQ(-EIO, clone_->Finish());
  EXPECT_EQ(-EIO, lost_);
  EXPECT_EQ(-EIO, ReadError(4));
  ExpectAllCopied();
}

TEST_F(CloneTest, ThatLacksABlockIsLostAfterTheSessionToo) {
  MakeWithClone();
  CopyAll();
  clone_->Forget(5);
  EndSession();
  EXPECT_EQ(-EIO, clone_->Finish());
  EXPECT_EQ(-EIO, lost_);
}

TEST_F(CloneTest, ThatIsClosedIsPassedByAndTheBackupGoesOn) {
  MakeWithClone();
  session_->PushWork({{0, 50 * kBlock}}, false);
  Eventually([&] { return session_->Stats().done_blocks == 50; });
  KeepCopiersBusy();
  std::future<int> waits = ReadElsewhere(60);
  AwaitDemands(1);
  clone_->Shutdown();
  EXPECT_EQ(-ESHUTDOWN, Get(waits));
  EXPECT_EQ(0, clone_->Close());
  EXPECT_EQ(0, clone_->Close());
  target_.Open();
  CopyAll();
  ExpectAllCopied();
  EXPECT_EQ(kJunk, destination_.Read(60 * kBlock, 1)[0]);
  EXPECT_EQ(-ESHUTDOWN, ReadError(3));
  EXPECT_EQ(-ESHUTDOWN, clone_->Finish());
  EXPECT_EQ(0, lost_);
}

TEST_F(CloneTest, IsMadeDurableAtItsEndForWhatClientsWroteAndForNothingElse) {
  MakeWithClone();
  session_->PushWork({{0, 50 * kBlock}}, false);
  Eventually([&] { return session_->Stats().done_blocks == 50; });
  session_->Stop();
  EXPECT_EQ(0, ReadError(7));
  EXPECT_EQ(0, clone_->Close());
  EXPECT_EQ(0, clone_->syncs) << "it is not whole, and nobody wrote";
  clone_ = OpenClone(kSize, kBlock, false);
  EXPECT_EQ(0, Write(3 * kBlock, kBlock));
  EXPECT_EQ(0, clone_->Close());
  EXPECT_EQ(1, clone_->syncs);
  clone_ = OpenClone(kSize, kBlock, false);
  clone_->Put(0, 1, Origin(0));
  EXPECT_EQ(0, clone_->Finish());
  EXPECT_EQ(0, clone_->Close());
  EXPECT_EQ(1, clone_->syncs) << "it was durable already";
}

TEST_F(CloneTest, IsRefusedWhereItsSizeIsNotTheOrigins) {
  Make();
  EXPECT_EQ(-EINVAL, session_->SetClone(OpenClone(kSize - 1, kBlock, true)));
  EXPECT_EQ(-EINVAL, session_->SetClone(OpenClone(kSize, 2 * kBlock, true)));
  EXPECT_EQ(0, session_->SetClone(OpenClone(kSize, kBlock, true)));
  ASSERT_EQ(0, ftruncate(destination_.fd(), kSize - 1));
  EXPECT_EQ(-EINVAL, session_->SetClone(OpenClone(kSize, kBlock, true)));
}

// --- the session ends, while clients wait

class CloneEndTest : public CloneTest {
 protected:
  void Begin() {
    MakeWithClone();
    session_->PushWork({{0, kBlock}}, false);
    Eventually([&] { return session_->Stats().done_blocks == 1; });
    ClaimAsDriver(4);  // its event never comes
    for (int i = 0; i < 2; i++) waiting_.push_back(ReadElsewhere(4));
    waiting_.push_back(std::async(std::launch::async, [this] { return Write(4 * kBlock + 1, 1); }));
    AwaitDemands(3);
  }
  void ExpectTheEnd() {
    for (std::future<int>& client : waiting_) EXPECT_EQ(-ESHUTDOWN, Get(client));
    waiting_.clear();
    for (uint64_t block : {4, 9}) EXPECT_EQ(-ESHUTDOWN, ReadError(block)) << block;
    EXPECT_EQ(0, ReadError(0)) << "what is here is here, until it is closed";
    EXPECT_EQ(0, clone_->Finish()) << "nobody has said that it is whole";
    EXPECT_EQ(0, lost_);
  }
  std::vector<std::future<int>> waiting_;
};

TEST_F(CloneEndTest, ABrokenSessionSendsClientsBack) {
  Begin();
  driver_.SetState(SNAPBAK_STATE_BROKEN, SNAPBAK_REASON_HOLD_TIMEOUT);
  ExpectTheEnd();
}

TEST_F(CloneEndTest, ADriverThatIsGoneSendsClientsBack) {
  Begin();
  driver_.Leave();
  ExpectTheEnd();
}

TEST_F(CloneEndTest, ATargetThatFailsSendsClientsBack) {
  Begin();
  target_.FailNext(1000000, -EIO);
  session_->PushWork({{kBlock, kBlock}}, false);
  ExpectTheEnd();
}

TEST_F(CloneEndTest, StoppingSendsClientsBack) {
  Begin();
  session_->Stop();
  ExpectTheEnd();
  session_.reset();
  ExpectTheEnd();
}

}  // namespace
}  // namespace snapbak
