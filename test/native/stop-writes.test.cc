// SPDX-License-Identifier: MIT
// STOP_WRITES: writes stand still until the START behind it, and never longer
// than they may. The engine is asked directly; each session's owner is a number.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "native/driver/engine.h"
#include "temporary-image.h"

namespace snapbak {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 16;
constexpr uint64_t kForever = 600'000;
constexpr uint64_t kOwner = 1;

class StopWritesTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = TemporaryImage(std::vector<uint8_t>(kBlock * kBlocks, 'a'));
    ASSERT_EQ(Engine::Open(path_, {}, &engine_), 0);
  }
  void TearDown() override {
    engine_.reset();
    unlink(path_.c_str());
  }

  // OPEN and SETUP with every block pending.
  void Prepare(uint64_t owner = kOwner) {
    snapbak_open open{};
    open.size = sizeof open;
    UniqueFd lower, memory_fd;
    ASSERT_EQ(engine_->HandleOpen(owner, &open, &lower), 0);
    snapbak_setup setup{};
    setup.size = sizeof setup;
    setup.block_shift = 12;
    setup.nr_slots = kBlocks;
    setup.hold_timeout_ms = 60000;
    ASSERT_EQ(engine_->HandleSetup(owner, &setup, &memory_fd, &wake_), 0);
    ASSERT_EQ(SharedMemory::Adopt(std::move(memory_fd), &memory_), 0);
    snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
  }

  int Stop(uint64_t timeout_ms = kForever, uint64_t owner = kOwner) {
    snapbak_stop_writes stop{};
    stop.size = sizeof stop;
    stop.timeout_ms = timeout_ms;
    return engine_->HandleStopWrites(owner, &stop);
  }

  int Start(uint64_t owner = kOwner) {
    start_ = {};
    start_.size = sizeof start_;
    start_.timeout_ms = 5000;
    return engine_->HandleStart(owner, &start_);
  }

  int Abort(uint64_t owner = kOwner) {
    snapbak_abort abort{};
    abort.size = sizeof abort;
    abort.reason = SNAPBAK_REASON_ABORTED;
    return engine_->HandleAbort(owner, &abort);
  }

  // A write to a block, on a thread of its own.
  std::future<int> Write(uint64_t block, char value) {
    return std::async(std::launch::async, [this, block, value] {
      const std::vector<uint8_t> bytes(kBlock, static_cast<uint8_t>(value));
      return engine_->Write(bytes.data(), kBlock, block * kBlock, false);
    });
  }

  char Lower(uint64_t block) {
    char byte = 0;
    EXPECT_EQ(engine_->Read(&byte, 1, block * kBlock), 0);
    return byte;
  }

  // The block was captured: a write to it came after the start instant.
  bool Captured(uint64_t block) {
    snapbak_ring events = memory_.EventRing();
    for (uint32_t i = 0; i < snapbak_ring_ready(&events); ++i) {
      const snapbak_event event = snapbak_ring_get_event(&events, i);
      if (event.block == block) return event.type == SNAPBAK_EVENT_CAPTURED;
    }
    return false;
  }

  std::string path_;
  std::unique_ptr<Engine> engine_;
  SharedMemory memory_;
  UniqueFd wake_;
  snapbak_start start_{};
};

TEST_F(StopWritesTest, AWriteThatComesMeanwhileIsAfterTheStartInstant) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  std::future<int> write = Write(3, 'b');
  // However long it had: it is not there.
  EXPECT_EQ(write.wait_for(milliseconds(50)), std::future_status::timeout);
  EXPECT_EQ(Lower(3), 'a');
  ASSERT_EQ(Start(), 0);
  ASSERT_EQ(write.get(), 0);
  EXPECT_EQ(Lower(3), 'b');
  EXPECT_TRUE(Captured(3));
  EXPECT_GE(start_.arm_ns, 50'000'000u) << "writes stood still from the stop on";
}

TEST_F(StopWritesTest, ReadsGoOn) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  EXPECT_EQ(Lower(5), 'a');
  ASSERT_EQ(Start(), 0);
}

TEST_F(StopWritesTest, WritesGoOnByThemselvesWhenTheTimeIsOver) {
  Prepare();
  const Clock::time_point begin = Clock::now();
  ASSERT_EQ(Stop(200), 0);
  std::future<int> first = Write(1, 'b'), second = Write(2, 'b');
  EXPECT_EQ(first.get(), 0);
  EXPECT_EQ(second.get(), 0);
  EXPECT_GE(Clock::now() - begin, milliseconds(200));
  EXPECT_EQ(Lower(1), 'b');
  EXPECT_EQ(Start(), -ETIMEDOUT);
  EXPECT_FALSE(Captured(1));

  // Nothing has changed: it may be tried again.
  ASSERT_EQ(Stop(), 0);
  std::future<int> third = Write(4, 'b');
  ASSERT_EQ(Start(), 0);
  EXPECT_EQ(third.get(), 0);
  EXPECT_TRUE(Captured(4));
}

TEST_F(StopWritesTest, AStartThatComesTooLateSaysSoThoughNobodyWrote) {
  Prepare();
  const Clock::time_point until = Clock::now() + milliseconds(1);
  ASSERT_EQ(Stop(1), 0);
  std::this_thread::sleep_until(until + milliseconds(1));
  EXPECT_EQ(Start(), -ETIMEDOUT);
  EXPECT_EQ(Write(1, 'b').get(), 0);
}

TEST_F(StopWritesTest, TwiceIsRefusedAndChangesNothing) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  EXPECT_EQ(Stop(), -EINVAL);
  std::future<int> write = Write(1, 'b');
  ASSERT_EQ(Start(), 0);
  EXPECT_EQ(write.get(), 0);
  EXPECT_TRUE(Captured(1));
}

TEST(WriteGate, IsNotShutForATimeWhileAWriteIsInside) {
  WriteGate gate;
  auto inside = std::make_unique<WriteGate::Ticket>(&gate);
  EXPECT_EQ(gate.ShutUntil(Clock::now() + milliseconds(20), [] { return false; }), -ETIMEDOUT);
  EXPECT_FALSE(gate.KeepShut());
  { WriteGate::Ticket another(&gate); }  // it is open again

  std::future<int> shutting = std::async(std::launch::async, [&] {
    return gate.ShutUntil(Clock::now() + std::chrono::hours(1), [] { return false; });
  });
  while (WriteGate::Ticket(&gate, std::try_to_lock).inside()) std::this_thread::yield();
  // This one waits before there is a limit to its wait, and is told of it.
  std::future<void> write = std::async(std::launch::async, [&] { WriteGate::Ticket ticket(&gate); });
  inside.reset();
  EXPECT_EQ(shutting.get(), 0);
  gate.EndTime();
  write.get();
}

TEST(WriteGate, ThatIsKeptShutIsNotOpenedByTheEndOfTheTime) {
  WriteGate gate;
  ASSERT_EQ(gate.ShutUntil(Clock::now() + std::chrono::hours(1), [] { return false; }), 0);
  EXPECT_TRUE(gate.KeepShut());
  gate.EndTime();
  EXPECT_FALSE(WriteGate::Ticket(&gate, std::try_to_lock).inside());
  EXPECT_FALSE(gate.KeepShut()) << "it is no longer shut for a time";
  gate.Open();
  EXPECT_TRUE(WriteGate::Ticket(&gate, std::try_to_lock).inside());
}

TEST_F(StopWritesTest, AnAbortLetsThemGoOn) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  std::future<int> write = Write(1, 'b');
  ASSERT_EQ(Abort(), 0);
  EXPECT_EQ(write.get(), 0);
  EXPECT_EQ(Start(), -ECANCELED);
}

TEST_F(StopWritesTest, TheDeathOfTheOwnerLetsThemGoOn) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  std::future<int> write = Write(1, 'b');
  engine_->HandleGone(kOwner);
  EXPECT_EQ(write.get(), 0);
  engine_->HandleClose(kOwner);

  // And the next session has a start of its own, without a stop before.
  Prepare(2);
  ASSERT_EQ(Start(2), 0);
  EXPECT_EQ(Write(1, 'c').get(), 0);
  EXPECT_TRUE(Captured(1));
}

TEST_F(StopWritesTest, TheEndOfTheOriginLetsThemGoOn) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  std::future<int> write = Write(1, 'b');
  engine_->Close();
  EXPECT_EQ(write.get(), 0);
}

// Whoever is gone has no say in what another has stopped.
TEST_F(StopWritesTest, AnotherOwnerLetsNothingGo) {
  Prepare();
  ASSERT_EQ(Stop(), 0);
  std::future<int> write = Write(1, 'b');
  engine_->HandleGone(7);
  EXPECT_EQ(Abort(7), -EPERM);
  EXPECT_EQ(Stop(kForever, 7), -EPERM);
  EXPECT_EQ(Start(7), -EPERM);
  EXPECT_EQ(write.wait_for(milliseconds(20)), std::future_status::timeout);
  ASSERT_EQ(Start(), 0);
  EXPECT_EQ(write.get(), 0);
  EXPECT_TRUE(Captured(1));
}

TEST_F(StopWritesTest, IsRefusedOutOfOrderAndWithoutALimit) {
  EXPECT_EQ(Stop(), -ENOTCONN);
  snapbak_open open{};
  open.size = sizeof open;
  UniqueFd lower;
  ASSERT_EQ(engine_->HandleOpen(kOwner, &open, &lower), 0);
  EXPECT_EQ(Stop(), -EINVAL) << "before SETUP";
  engine_->HandleClose(kOwner);
  Prepare();
  EXPECT_EQ(Stop(0), -EINVAL);
  EXPECT_EQ(Stop(kForever + 1), -EINVAL);
  snapbak_stop_writes stop{};
  stop.size = sizeof stop;
  stop.timeout_ms = 1000;
  stop.flags = 1;
  EXPECT_EQ(engine_->HandleStopWrites(kOwner, &stop), -EINVAL);
  stop.flags = 0;
  stop.reserved[3] = 1;
  EXPECT_EQ(engine_->HandleStopWrites(kOwner, &stop), -EINVAL);
  ASSERT_EQ(Start(), 0);
  EXPECT_EQ(Stop(), -EINVAL) << "armed";
  EXPECT_EQ(Write(1, 'b').get(), 0) << "none of it shut the gate";
}

TEST_F(StopWritesTest, TheDriverSaysThatItKnowsIt) {
  snapbak_query query{};
  query.size = sizeof query;
  ASSERT_EQ(engine_->HandleQuery(&query), 0);
  EXPECT_NE(query.features & SNAPBAK_F_STOP_WRITES, 0u);
}

}  // namespace
}  // namespace snapbak
