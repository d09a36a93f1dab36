// SPDX-License-Identifier: MIT
// The engine as a driver: the tests play the library by hand, over the shared
// memory, so that each rule of the claim protocol is seen alone.
#include "native/driver/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernel-module/core/snapbak_hints.h"
#include "kernel-module/core/snapbak_histogram.h"
#include "native/driver/engine_driver.h"
#include "temporary-image.h"

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kBlocks = 64;
constexpr uint64_t kSize = kBlock * kBlocks - 1000;  // the last block is short

// An image whose byte at `i` is a function of i.
uint8_t Pattern(uint64_t i) { return static_cast<uint8_t>(i * 7 + i / 4096 * 13 + 1); }

class EngineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<uint8_t> bytes(kSize);
    for (uint64_t i = 0; i < kSize; ++i) bytes[i] = Pattern(i);
    path_ = TemporaryImage(bytes);
    std::unique_ptr<Engine> engine;
    ASSERT_EQ(Engine::Open(path_, {}, &engine), 0);
    engine_ = std::move(engine);
    driver_ = std::make_unique<EngineDriver>(engine_);
  }

  void TearDown() override {
    driver_.reset();
    engine_.reset();
    unlink(path_.c_str());
  }

  void Begin(uint32_t slots, uint32_t on_full = SNAPBAK_ON_FULL_BREAK, uint64_t hold_ms = 60000) {
    snapbak_open open{};
    open.size = sizeof open;
    ASSERT_EQ(driver_->Open(&open, &lower_), 0);
    EXPECT_EQ(open.origin_size, kSize);
    snapbak_setup setup{};
    setup.size = sizeof setup;
    setup.block_shift = 12;
    setup.nr_slots = slots;
    setup.on_full = on_full;
    setup.hold_timeout_ms = hold_ms;
    setup.stall_timeout_ms = stall_ms_;
    ASSERT_EQ(driver_->Setup(&setup, &memory_), 0);
    events_ = memory_.EventRing();
    free_ = memory_.FreeRing();
  }

  void Arm() {
    snapbak_start start{};
    start.size = sizeof start;
    start.timeout_ms = 5000;
    ASSERT_EQ(driver_->Start(&start), 0);
    EXPECT_EQ(State(), SNAPBAK_STATE_ARMED);
  }

  void BeginAllPending(uint32_t slots, uint32_t on_full = SNAPBAK_ON_FULL_BREAK, uint64_t hold_ms = 60000) {
    Begin(slots, on_full, hold_ms);
    snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
    Arm();
  }

  uint32_t State() { return snapbak_load_acquire(&memory_.header()->state); }
  uint64_t Counter(snapbak_counter c) { return snapbak_load_relaxed(&memory_.header()->counters[c]); }

  uint64_t Bucket(snapbak_histogram h, unsigned bucket) {
    return snapbak_load_relaxed(&memory_.header()->histograms[h][bucket]);
  }
  uint64_t Times(snapbak_histogram h) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < SNAPBAK_HISTOGRAM_BUCKETS; ++i) sum += Bucket(h, i);
    return sum;
  }

  bool NextEvent(snapbak_event* event) {
    if (snapbak_ring_ready(&events_) < 1) return false;
    *event = snapbak_ring_get_event(&events_, 0);
    snapbak_ring_release(&events_, 1);
    return true;
  }

  // Waits by the header's protocol, so that a lost wake-up fails the test.
  snapbak_event WaitEvent() {
    snapbak_event event{};
    for (;;) {
      if (NextEvent(&event)) return event;
      snapbak_store_relaxed(&memory_.header()->library_asleep, 1u);
      snapbak_full_fence();
      if (snapbak_ring_ready(&events_) > 0) continue;
      const int ret = driver_->WaitEvent(never_[0], 20000);
      EXPECT_EQ(ret, 0) << "no wake-up came";
      if (ret != 0) return event;
    }
  }

  void ReturnSlot(uint32_t slot) {
    snapbak_ring_put_slot(&free_, 0, slot);
    snapbak_ring_publish(&free_, 1);
    KickIfWaiting();
  }

  void KickIfWaiting() {
    snapbak_full_fence();
    if (snapbak_load_relaxed(&memory_.header()->driver_waiting) != 0) driver_->Kick();
  }

  int WriteByte(uint64_t offset, uint8_t value, uint32_t length = 1) {
    const std::vector<uint8_t> bytes(length, value);
    return engine_->Write(bytes.data(), length, offset, false);
  }

  std::vector<uint8_t> Lower(uint64_t block) {
    std::vector<uint8_t> bytes(memory_.block_bytes(block));
    EXPECT_EQ(pread(lower_.get(), bytes.data(), bytes.size(), static_cast<off_t>(block * kBlock)),
              static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

  void ExpectOldContent(const uint8_t* bytes, uint64_t block) {
    for (uint32_t i = 0; i < memory_.block_bytes(block); ++i) {
      ASSERT_EQ(bytes[i], Pattern(block * kBlock + i)) << "block " << block << " byte " << i;
    }
  }

  // Becomes true only through the engine; gives up long after any right answer.
  bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 20000; ++i) {
      if (condition()) return true;
      usleep(1000);
    }
    return false;
  }

  uint64_t stall_ms_ = 0;
  std::string path_;
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<EngineDriver> driver_;
  UniqueFd lower_;
  SharedMemory memory_;
  snapbak_ring events_{}, free_{};
  int never_[2] = {eventfd_(), -1};

  static int eventfd_() {
    static int fds[2];
    static const int ok = pipe(fds);
    EXPECT_EQ(ok, 0);
    return fds[0];
  }
};

TEST_F(EngineTest, TheFirstWriteToAPendingBlockIsCapturedAndTheSecondIsNot) {
  BeginAllPending(8);
  ASSERT_EQ(WriteByte(3 * kBlock + 5, 0xee), 0);
  const snapbak_event event = WaitEvent();
  EXPECT_EQ(event.type, SNAPBAK_EVENT_CAPTURED);
  EXPECT_EQ(event.block, 3u);
  ExpectOldContent(memory_.slot(event.slot), 3);
  EXPECT_EQ(Lower(3)[5], 0xee);
  ASSERT_EQ(WriteByte(3 * kBlock + 6, 0xdd), 0);
  snapbak_event none;
  EXPECT_FALSE(NextEvent(&none));
  EXPECT_EQ(Counter(SNAPBAK_C_CAPTURED), 1u);
}

TEST_F(EngineTest, BlocksThatAreNotListedAreNotCaptured) {
  Begin(8);
  snapbak_bitmap_set_range(memory_.bitmap(), 10, 2);
  Arm();
  ASSERT_EQ(WriteByte(9 * kBlock, 1, 3 * kBlock + 1), 0);  // blocks 9 to 12
  EXPECT_EQ(WaitEvent().block, 10u);
  EXPECT_EQ(WaitEvent().block, 11u);
  snapbak_event none;
  EXPECT_FALSE(NextEvent(&none));
}

TEST_F(EngineTest, AWriteOverManyBlocksCapturesEachOfThem) {
  BeginAllPending(kBlocks);
  ASSERT_EQ(WriteByte(kBlock / 2, 9, 40 * kBlock), 0);
  for (uint64_t block = 0; block <= 40; ++block) {
    const snapbak_event event = WaitEvent();
    EXPECT_EQ(event.block, block);
    ExpectOldContent(memory_.slot(event.slot), block);
  }
}

TEST_F(EngineTest, TheShortLastBlockIsCaptured) {
  BeginAllPending(2);
  ASSERT_EQ(WriteByte(kSize - 1, 0xaa), 0);
  const snapbak_event event = WaitEvent();
  EXPECT_EQ(event.block, kBlocks - 1);
  ExpectOldContent(memory_.slot(event.slot), kBlocks - 1);
}

TEST_F(EngineTest, ZeroesAreCaptured) {
  BeginAllPending(4);
  ASSERT_EQ(engine_->WriteZeroes(5 * kBlock + 100, kBlock, {}), 0);
  ExpectOldContent(memory_.slot(WaitEvent().slot), 5);
  ExpectOldContent(memory_.slot(WaitEvent().slot), 6);
  EXPECT_EQ(Lower(5)[100], 0);
}

TEST_F(EngineTest, ADiscardOfTheWholeDeviceCapturesNothingAndSparesWhatIsPending) {
  Begin(2);
  snapbak_bitmap_set_range(memory_.bitmap(), 10, 20);
  Arm();
  ASSERT_EQ(engine_->Discard(0, kSize, false), 0);
  snapbak_event none;
  EXPECT_FALSE(NextEvent(&none));
  for (uint64_t block = 10; block < 30; ++block) ExpectOldContent(Lower(block).data(), block);
  EXPECT_EQ(Lower(9), std::vector<uint8_t>(kBlock, 0)) << "what is not pending is discarded";
  EXPECT_EQ(Lower(30), std::vector<uint8_t>(kBlock, 0));
  EXPECT_EQ(Counter(SNAPBAK_C_DISCARDS_DROPPED), 1u);
}

TEST_F(EngineTest, AWriteWithoutASlotIsHeldUntilTheLibraryClaimsItsBlock) {
  BeginAllPending(1);
  ASSERT_EQ(WriteByte(0, 1), 0);
  WaitEvent();
  auto held = std::async(std::launch::async, [&] { return WriteByte(7 * kBlock, 2); });
  const snapbak_event wanted = WaitEvent();
  EXPECT_EQ(wanted.type, SNAPBAK_EVENT_WANTED);
  EXPECT_EQ(wanted.block, 7u);
  EXPECT_EQ(held.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  const std::vector<uint8_t> ours = Lower(7);
  ASSERT_NE(snapbak_bitmap_claim(memory_.bitmap(), 7, 1), 0u) << "its bit is still set while it is held";
  KickIfWaiting();
  EXPECT_EQ(held.get(), 0);
  ExpectOldContent(ours.data(), 7);
  EXPECT_EQ(Lower(7)[0], 2);
  EXPECT_EQ(Counter(SNAPBAK_C_HELD), 1u);
  EXPECT_EQ(Counter(SNAPBAK_C_HELD_NOW), 0u);
  EXPECT_GE(Counter(SNAPBAK_C_HELD_MAX_NS), 50'000'000u);
  EXPECT_EQ(Times(SNAPBAK_H_HOLD), 1u);
  EXPECT_EQ(Bucket(SNAPBAK_H_HOLD, snapbak_histogram_bucket(Counter(SNAPBAK_C_HELD_MAX_NS))), 1u);
}

TEST_F(EngineTest, EveryCaptureIsInTheHistogramWithTheTimeThatItTook) {
  BeginAllPending(16);
  ASSERT_EQ(WriteByte(2 * kBlock, 1, 5 * kBlock), 0);
  ASSERT_EQ(WriteByte(9 * kBlock, 1), 0);
  ASSERT_EQ(WriteByte(9 * kBlock, 1), 0);
  EXPECT_EQ(Counter(SNAPBAK_C_CAPTURED), 6u);
  EXPECT_EQ(Times(SNAPBAK_H_CAPTURE), 6u);
  const uint64_t longest = Counter(SNAPBAK_C_CAPTURE_MAX_NS);
  EXPECT_GT(longest, 0u);
  EXPECT_GE(Bucket(SNAPBAK_H_CAPTURE, snapbak_histogram_bucket(longest)), 1u);
  EXPECT_GT(Counter(SNAPBAK_C_CAPTURE_NS), longest);
  EXPECT_LE(Counter(SNAPBAK_C_CAPTURE_NS), 6 * longest);
  EXPECT_EQ(Times(SNAPBAK_H_HOLD), 0u);
  EXPECT_EQ(Times(SNAPBAK_H_DELAY), 0u);
}

TEST_F(EngineTest, ADelayedWriteIsCountedWhileItWaitsAndItsTimeAfterwards) {
  Begin(8);
  snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
  snapbak_shm* header = memory_.header();
  header->throttle_full = 2;
  header->throttle_rate = 4096;  // a block a second, so the delay is its ceiling
  header->throttle_max_us = 200'000;
  header->throttle_begin = 1;
  Arm();
  ASSERT_EQ(WriteByte(0, 1), 0);
  ASSERT_EQ(WriteByte(kBlock, 1), 0);
  ASSERT_EQ(Counter(SNAPBAK_C_DELAYED), 0u) << "the fill was not above the beginning";
  auto first = std::async(std::launch::async, [&] { return WriteByte(2 * kBlock, 1); });
  auto second = std::async(std::launch::async, [&] { return WriteByte(3 * kBlock, 1); });
  EXPECT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_DELAYED_NOW) > 0; }));
  EXPECT_EQ(first.get(), 0);
  EXPECT_EQ(second.get(), 0);
  EXPECT_EQ(Counter(SNAPBAK_C_DELAYED_NOW), 0u);
  EXPECT_EQ(Counter(SNAPBAK_C_DELAYED), 2u);
  EXPECT_EQ(Times(SNAPBAK_H_DELAY), 2u);
  EXPECT_GE(Counter(SNAPBAK_C_DELAYED_NS), Counter(SNAPBAK_C_DELAYED_MAX_NS));
  EXPECT_GE(Bucket(SNAPBAK_H_DELAY, snapbak_histogram_bucket(Counter(SNAPBAK_C_DELAYED_MAX_NS))), 1u);
}

TEST_F(EngineTest, RequestsOfApplicationsAreTimedWhileASessionIsArmedAndOnlyThen) {
  std::vector<uint8_t> bytes(kBlock);
  Begin(1);
  snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
  ASSERT_EQ(engine_->Read(bytes.data(), kBlock, 0), 0);
  ASSERT_EQ(WriteByte(0, 1), 0);
  EXPECT_EQ(Counter(SNAPBAK_C_IO), 0u);
  Arm();
  ASSERT_EQ(engine_->Read(bytes.data(), kBlock, 0), 0);
  ASSERT_EQ(WriteByte(0, 1), 0);
  ASSERT_EQ(engine_->Discard(0, kBlock, true), 0);
  ASSERT_EQ(engine_->WriteZeroes(0, kBlock, {}), 0);
  ASSERT_EQ(engine_->Flush(), 0);
  ASSERT_EQ(engine_->Read(bytes.data(), kBlock, kSize), -EINVAL);
  EXPECT_EQ(Counter(SNAPBAK_C_IO), 4u);
  const uint64_t before = Counter(SNAPBAK_C_IO_NS);
  EXPECT_GT(before, 0u);
  WaitEvent();
  auto held = std::async(std::launch::async, [&] { return WriteByte(7 * kBlock, 2); });
  EXPECT_EQ(WaitEvent().type, SNAPBAK_EVENT_WANTED);
  EXPECT_EQ(Counter(SNAPBAK_C_IO), 4u) << "counted when it ends";
  EXPECT_EQ(held.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  snapbak_bitmap_claim(memory_.bitmap(), 0, kBlocks);
  KickIfWaiting();
  EXPECT_EQ(held.get(), 0);
  EXPECT_EQ(Counter(SNAPBAK_C_IO), 5u);
  EXPECT_GE(Counter(SNAPBAK_C_IO_NS), before + Counter(SNAPBAK_C_HELD_NS)) << "with what it was held";
}

TEST_F(EngineTest, AHeldWriteTakesASlotThatComesBack) {
  BeginAllPending(1);
  ASSERT_EQ(WriteByte(0, 1), 0);
  const uint32_t slot = WaitEvent().slot;
  auto held = std::async(std::launch::async, [&] { return WriteByte(7 * kBlock, 2); });
  EXPECT_EQ(WaitEvent().type, SNAPBAK_EVENT_WANTED);
  ReturnSlot(slot);
  EXPECT_EQ(held.get(), 0);
  const snapbak_event event = WaitEvent();
  EXPECT_EQ(event.type, SNAPBAK_EVENT_CAPTURED);
  ExpectOldContent(memory_.slot(event.slot), 7);
}

// A write takes all free slots for blocks that the sweep claims before it does; another is held meanwhile.
TEST_F(EngineTest, AHeldWriteTakesASlotThatAnotherDidNotNeed) {
  constexpr uint64_t kRun = 60, kOther = 61;
  Begin(4);
  snapbak_bitmap_set_range(memory_.bitmap(), 62, 2);
  snapbak_shm* header = memory_.header();
  header->throttle_full = 2;
  header->throttle_rate = 4096;  // a block a second, so the delay is its ceiling
  header->throttle_max_us = 2'000;
  Arm();
  for (uint64_t block : {62, 63}) ASSERT_EQ(WriteByte(block * kBlock, 1), 0);
  for (int i = 0; i < 2; ++i) WaitEvent();
  for (int i = 0; i < 500; ++i) {
    snapbak_bitmap_set_range(memory_.bitmap(), 0, kRun);
    snapbak_bitmap_set_range(memory_.bitmap(), kOther, 1);
    snapbak_store_relaxed(&header->throttle_begin, 1u);
    auto run = std::async(std::launch::async, [&] { return WriteByte(0, 1, kRun * kBlock); });
    // delayed, it has seen its blocks pending, and has no slots yet
    ASSERT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_DELAYED) == static_cast<uint64_t>(i + 1); }));
    snapbak_store_relaxed(&header->throttle_begin, 0u);
    auto other = std::async(std::launch::async, [&] {
      while (Counter(SNAPBAK_C_DELAYED_NOW) != 0) {
      }
      return WriteByte(kOther * kBlock, 1);
    });
    snapbak_bitmap_claim(memory_.bitmap(), 0, kRun);
    KickIfWaiting();  // the library is done: from here on only the driver can wake the other one
    for (bool captured = false; !captured;) {
      const snapbak_event event = WaitEvent();
      if (event.type == SNAPBAK_EVENT_CAPTURED) ReturnSlot(event.slot);
      captured = event.type == SNAPBAK_EVENT_CAPTURED && event.block == kOther;
      if (HasFailure()) return driver_.reset();  // lets it go
    }
    EXPECT_EQ(run.get(), 0);
    EXPECT_EQ(other.get(), 0);
    for (snapbak_event event; NextEvent(&event);) {
      if (event.type == SNAPBAK_EVENT_CAPTURED) ReturnSlot(event.slot);
    }
  }
}

TEST_F(EngineTest, AHoldPastItsTimeBreaksTheSessionAndLetsTheWriteGo) {
  BeginAllPending(1, SNAPBAK_ON_FULL_BREAK, 50);
  ASSERT_EQ(WriteByte(0, 1), 0);
  ASSERT_EQ(WriteByte(kBlock, 2), 0);  // returns by the break
  EXPECT_EQ(State(), SNAPBAK_STATE_BROKEN);
  EXPECT_EQ(memory_.header()->reason, SNAPBAK_REASON_HOLD_TIMEOUT);
  EXPECT_EQ(Lower(1)[0], 2);
  ASSERT_EQ(WriteByte(2 * kBlock, 3), 0) << "a broken session holds nobody";
  snapbak_finish finish{};
  finish.size = sizeof finish;
  EXPECT_NE(driver_->Finish(&finish), 0);
}

TEST_F(EngineTest, WithThePolicyHoldAWriteIsHeldPastItsTimeUntilTheOwnerGoes) {
  BeginAllPending(1, SNAPBAK_ON_FULL_HOLD, 10);
  ASSERT_EQ(WriteByte(0, 1), 0);
  auto held = std::async(std::launch::async, [&] { return WriteByte(kBlock, 2); });
  ASSERT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_HELD_NOW) == 1; }));
  EXPECT_EQ(held.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  driver_.reset();
  EXPECT_EQ(held.get(), 0);
  EXPECT_EQ(Lower(1)[0], 2);
}

TEST_F(EngineTest, ALibraryThatGetsNowhereWhileAWriteIsHeldIsTakenForDead) {
  using Clock = std::chrono::steady_clock;
  // On a busy machine this test itself may get nowhere for so long; then the bound was too short for it.
  for (stall_ms_ = 50;; stall_ms_ *= 2) {
    const std::chrono::milliseconds bound(stall_ms_);
    BeginAllPending(1, SNAPBAK_ON_FULL_HOLD);
    ASSERT_EQ(WriteByte(0, 1), 0);
    auto held = std::async(std::launch::async, [&] { return WriteByte(kBlock, 2); });
    ASSERT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_HELD_NOW) == 1; }));
    // progress, however slow it is, keeps the session
    Clock::time_point last = Clock::now();
    Clock::duration longest{0};
    for (const auto end = last + 5 * bound; last < end && State() == SNAPBAK_STATE_ARMED;) {
      const Clock::time_point began = Clock::now();
      __atomic_fetch_add(&memory_.header()->heartbeat, 1, __ATOMIC_RELAXED);
      longest = std::max(longest, Clock::now() - last);
      last = began;
      usleep(1000);
    }
    longest = std::max(longest, Clock::now() - last);
    const bool kept = State() == SNAPBAK_STATE_ARMED;
    ASSERT_TRUE(kept || longest >= bound) << "it broke, though there was progress all the time";
    EXPECT_EQ(held.get(), 0);
    EXPECT_EQ(State(), SNAPBAK_STATE_BROKEN);
    EXPECT_EQ(memory_.header()->reason, SNAPBAK_REASON_STALLED);
    EXPECT_EQ(Lower(1)[0], 2);
    if (kept) return;
    driver_ = std::make_unique<EngineDriver>(engine_);
  }
}

TEST_F(EngineTest, AnIdleLibraryMayBeSilentForAsLongAsItLikesWhileNoWriteIsHeld) {
  stall_ms_ = 1;
  BeginAllPending(2, SNAPBAK_ON_FULL_HOLD);
  ASSERT_EQ(WriteByte(0, 1), 0);
  usleep(20'000);
  ASSERT_EQ(WriteByte(kBlock, 1), 0);
  EXPECT_EQ(State(), SNAPBAK_STATE_ARMED);
}

TEST_F(EngineTest, SlotsGoToTheWritesThatAreHeldLongest) {
  constexpr uint64_t kWrites = 12;
  BeginAllPending(1, SNAPBAK_ON_FULL_HOLD);
  ASSERT_EQ(WriteByte(0, 1), 0);
  uint32_t slot = WaitEvent().slot;
  std::vector<std::future<int>> held;
  for (uint64_t i = 1; i <= kWrites; ++i) {
    held.push_back(std::async(std::launch::async, [&, i] { return WriteByte(i * kBlock, 2); }));
    ASSERT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_HELD_NOW) == i; }));
    EXPECT_EQ(WaitEvent().type, SNAPBAK_EVENT_WANTED);
  }
  for (uint64_t i = 1; i <= kWrites; ++i) {
    ReturnSlot(slot);
    snapbak_event event = WaitEvent();
    // a write that looked, and came too late, says again what it wants
    while (event.type == SNAPBAK_EVENT_WANTED) event = WaitEvent();
    EXPECT_EQ(event.block, i);
    slot = event.slot;
    EXPECT_EQ(held[i - 1].get(), 0);
  }
}

TEST_F(EngineTest, AbortReleasesEveryHeldWrite) {
  BeginAllPending(1, SNAPBAK_ON_FULL_HOLD);
  ASSERT_EQ(WriteByte(0, 1), 0);
  std::vector<std::future<int>> held;
  for (uint64_t i = 1; i <= 8; ++i) {
    held.push_back(std::async(std::launch::async, [&, i] { return WriteByte(i * kBlock, 2); }));
  }
  ASSERT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_HELD_NOW) == 8; }));
  snapbak_abort abort{};
  abort.size = sizeof abort;
  abort.reason = SNAPBAK_REASON_ABORTED;
  EXPECT_EQ(driver_->Abort(&abort), 0);
  for (auto& write : held) EXPECT_EQ(write.get(), 0);
  EXPECT_EQ(State(), SNAPBAK_STATE_BROKEN);
}

TEST_F(EngineTest, FinishIsRefusedWhileABlockIsPending) {
  BeginAllPending(kBlocks);
  snapbak_finish finish{};
  finish.size = sizeof finish;
  EXPECT_EQ(driver_->Finish(&finish), -EBUSY);
  snapbak_bitmap_claim(memory_.bitmap(), 0, 64);
  EXPECT_EQ(driver_->Finish(&finish), 0);
  EXPECT_EQ(State(), SNAPBAK_STATE_FINISHED);
  ASSERT_EQ(WriteByte(0, 1), 0);
  snapbak_event none;
  EXPECT_FALSE(NextEvent(&none));
}

TEST_F(EngineTest, ASecondSessionIsRefusedUntilTheFirstEnds) {
  BeginAllPending(4);
  EngineDriver second(engine_);
  snapbak_open open{};
  open.size = sizeof open;
  UniqueFd lower;
  EXPECT_EQ(second.Open(&open, &lower), -EBUSY);
  snapbak_abort abort{};
  abort.size = sizeof abort;
  abort.reason = SNAPBAK_REASON_ABORTED;
  EXPECT_EQ(second.Abort(&abort), -EPERM) << "a stranger cannot end it";
  driver_.reset();
  EXPECT_EQ(second.Open(&open, &lower), 0);
}

TEST_F(EngineTest, RequestsOutOfOrderAndRubbishInReservedFieldsAreRefused) {
  snapbak_setup setup{};
  setup.size = sizeof setup;
  setup.block_shift = 12;
  setup.nr_slots = 4;
  setup.hold_timeout_ms = 1000;
  EXPECT_EQ(driver_->Setup(&setup, &memory_), -ENOTCONN);
  snapbak_open open{};
  open.size = sizeof open - 8;
  UniqueFd lower;
  EXPECT_EQ(driver_->Open(&open, &lower), -EINVAL);
  open.size = sizeof open;
  open.reserved[3] = 1;
  EXPECT_EQ(driver_->Open(&open, &lower), -EINVAL);
  open.reserved[3] = 0;
  ASSERT_EQ(driver_->Open(&open, &lower), 0);
  snapbak_start start{};
  start.size = sizeof start;
  start.timeout_ms = 100;
  EXPECT_EQ(driver_->Start(&start), -EINVAL);
  setup.block_shift = 21;
  EXPECT_EQ(driver_->Setup(&setup, &memory_), -EINVAL);
  setup.block_shift = 12;
  setup.nr_slots = 0;
  EXPECT_EQ(driver_->Setup(&setup, &memory_), -EINVAL);
  setup.nr_slots = 4;
  setup.hold_timeout_ms = 0;
  EXPECT_EQ(driver_->Setup(&setup, &memory_), -EINVAL);
}

TEST_F(EngineTest, AFalseSlotInTheFreeRingBreaksTheSessionAndHarmsNobody) {
  BeginAllPending(2);
  ASSERT_EQ(WriteByte(0, 1), 0);
  ReturnSlot(77);
  ASSERT_EQ(WriteByte(kBlock, 1), 0);
  ASSERT_EQ(WriteByte(2 * kBlock, 1), 0);
  EXPECT_EQ(memory_.header()->reason, SNAPBAK_REASON_PROTOCOL);
  EXPECT_EQ(Lower(2)[0], 1);
}

TEST_F(EngineTest, ASlotReturnedTwiceBreaksTheSession) {
  BeginAllPending(2);
  ASSERT_EQ(WriteByte(0, 1), 0);
  const uint32_t slot = WaitEvent().slot;
  ReturnSlot(slot);
  ReturnSlot(slot);
  for (uint64_t i = 1; i < 4; ++i) ASSERT_EQ(WriteByte(i * kBlock, 1), 0);
  EXPECT_EQ(memory_.header()->reason, SNAPBAK_REASON_PROTOCOL);
}

TEST_F(EngineTest, ALibraryThatSetsBitsAgainCannotKeepAWriteForEver) {
  BeginAllPending(kBlocks);
  std::atomic<bool> stop{false};
  std::thread hostile([&] {
    while (!stop) snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
  });
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(WriteByte((i % kBlocks) * kBlock, 3, 4), 0);
    snapbak_event event;
    while (NextEvent(&event)) {
      if (event.type == SNAPBAK_EVENT_CAPTURED) ReturnSlot(event.slot);
    }
  }
  stop = true;
  hostile.join();
}

// The end of one session may come late, when the next is armed already.
TEST_F(EngineTest, TheEndOfASessionDoesNotDisarmTheNext) {
  constexpr uint64_t kFirst = 1000, kSecond = 1001;
  for (int round = 0; round < 300; ++round) {
    const auto open = [&](uint64_t owner) {
      snapbak_open request{};
      request.size = sizeof request;
      UniqueFd lower;
      return engine_->HandleOpen(owner, &request, &lower);
    };
    const auto setup = [&](uint64_t owner, UniqueFd* memory) {
      snapbak_setup request{};
      request.size = sizeof request;
      request.block_shift = 12;
      request.nr_slots = 4;
      request.hold_timeout_ms = 10000;
      UniqueFd wakes;
      return engine_->HandleSetup(owner, &request, memory, &wakes);
    };
    UniqueFd first_memory, second_memory;
    ASSERT_EQ(open(kFirst), 0);
    ASSERT_EQ(setup(kFirst, &first_memory), 0);
    std::atomic<bool> go{false};
    std::vector<std::thread> ends;
    ends.emplace_back([&] {
      while (!go) {
      }
      snapbak_abort abort{};
      abort.size = sizeof abort;
      abort.reason = SNAPBAK_REASON_ABORTED;
      engine_->HandleAbort(kFirst, &abort);  // in whatever order the two come
    });
    ends.emplace_back([&] {
      while (!go) {
      }
      engine_->HandleClose(kFirst);
    });
    go = true;
    int ret;
    do {
      ret = open(kSecond);
    } while (ret == -EBUSY);
    ASSERT_EQ(ret, 0);
    ASSERT_EQ(setup(kSecond, &second_memory), 0);
    SharedMemory memory;
    ASSERT_EQ(SharedMemory::Adopt(std::move(second_memory), &memory), 0);
    snapbak_bitmap_set_range(memory.bitmap(), 0, kBlocks);
    snapbak_start start{};
    start.size = sizeof start;
    start.timeout_ms = 5000;
    ASSERT_EQ(engine_->HandleStart(kSecond, &start), 0);
    for (std::thread& end : ends) end.join();
    ASSERT_EQ(WriteByte(0, 1), 0);
    ASSERT_EQ(memory.header()->counters[SNAPBAK_C_CAPTURED], 1u) << "round " << round << ": not captured";
    engine_->HandleClose(kSecond);
  }
}

TEST_F(EngineTest, FinishLetsHeldWritesGoThatNobodyKicked) {
  BeginAllPending(1, SNAPBAK_ON_FULL_HOLD);
  ASSERT_EQ(WriteByte(0, 1), 0);
  auto held = std::async(std::launch::async, [&] { return WriteByte(kBlock, 2); });
  ASSERT_TRUE(Eventually([&] { return Counter(SNAPBAK_C_HELD_NOW) == 1; }));
  for (uint64_t block = 0; block < kBlocks; ++block) {
    snapbak_bitmap_test_and_clear(memory_.bitmap(), block);
  }
  auto finished = std::async(std::launch::async, [&] {
    snapbak_finish finish{};
    finish.size = sizeof finish;
    return driver_->Finish(&finish);
  });
  const bool ends = finished.wait_for(std::chrono::seconds(10)) == std::future_status::ready;
  EXPECT_TRUE(ends);
  if (!ends) driver_->Kick();  // else this test would never end
  EXPECT_EQ(finished.get(), 0);
  EXPECT_EQ(held.get(), 0);
}

TEST_F(EngineTest, BitsThatComeBackDuringFinishHoldNoWrite) {
  BeginAllPending(1, SNAPBAK_ON_FULL_HOLD);
  ASSERT_EQ(WriteByte(0, 1), 0);  // keeps the one slot
  const auto clear = [&] {
    for (uint64_t block = 0; block < kBlocks; ++block) {
      snapbak_bitmap_test_and_clear(memory_.bitmap(), block);
    }
  };
  clear();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint8_t i = 0; !stop; ++i) EXPECT_EQ(WriteByte(kBlock * (i % kBlocks), i), 0);
  });
  std::thread hostile([&] {
    while (!stop) snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
  });
  auto finished = std::async(std::launch::async, [&] {
    int ret;
    do {
      clear();
      snapbak_finish finish{};
      finish.size = sizeof finish;
      ret = driver_->Finish(&finish);
    } while (ret == -EBUSY);
    return ret;
  });
  const bool ends = finished.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  EXPECT_TRUE(ends);
  if (!ends) engine_->Close();
  EXPECT_EQ(finished.get(), ends ? 0 : -EPIPE);
  stop = true;
  writer.join();
  hostile.join();
}

TEST_F(EngineTest, AnUnreadableBlockIsInvalidAndTheWriteGoesOn) {
  BeginAllPending(4);
  // The image shrinks under the driver: reads past its new end fail.
  ASSERT_EQ(truncate(path_.c_str(), 8 * kBlock), 0);
  ASSERT_EQ(WriteByte(10 * kBlock, 4), 0);
  const snapbak_event event = WaitEvent();
  EXPECT_EQ(event.type, SNAPBAK_EVENT_INVALID);
  EXPECT_EQ(event.block, 10u);
  EXPECT_EQ(event.error, -EIO);
  EXPECT_EQ(Counter(SNAPBAK_C_INVALID), 1u);
  // its slot is not lost
  for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(WriteByte(i * kBlock, 4), 0);
  EXPECT_EQ(Counter(SNAPBAK_C_HELD), 0u);
}

TEST_F(EngineTest, StartWaitsForWritesInFlightAndSeparatesBeforeFromAfter) {
  // A counter written to two far blocks, in order: no instant may see the second ahead of the first.
  Begin(kBlocks);
  snapbak_bitmap_set_range(memory_.bitmap(), 0, kBlocks);
  std::atomic<bool> stop{false};
  std::promise<void> begun;  // both blocks have a number
  std::thread writer([&] {
    for (uint32_t n = 1; !stop; ++n) {
      ASSERT_EQ(engine_->Write(&n, sizeof n, 2 * kBlock, false), 0);
      ASSERT_EQ(engine_->Write(&n, sizeof n, 50 * kBlock, false), 0);
      if (n == 1) begun.set_value();
    }
  });
  begun.get_future().wait();
  Arm();
  uint32_t seen[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    const snapbak_event event = WaitEvent();
    memcpy(&seen[event.block == 2 ? 0 : 1], memory_.slot(event.slot), 4);
  }
  stop = true;
  writer.join();
  EXPECT_TRUE(seen[0] == seen[1] || seen[0] == seen[1] + 1) << seen[0] << " " << seen[1];
}

TEST_F(EngineTest, SlotsBeyondTheMemoryOfTheMachineAreRefused) {
  snapbak_open open{};
  open.size = sizeof open;
  ASSERT_EQ(driver_->Open(&open, &lower_), 0);
  snapbak_setup setup{};
  setup.size = sizeof setup;
  setup.block_shift = 20;
  setup.nr_slots = SNAPBAK_MAX_SLOTS;  // 1 TiB
  setup.hold_timeout_ms = 1000;
  EXPECT_EQ(driver_->Setup(&setup, &memory_), -ENOMEM);
}

TEST(WriteGate, ShuttingGivesUpInTimeOrWhenItIsCancelledAndIsOpenThen) {
  WriteGate gate;
  auto inside = std::make_unique<WriteGate::Ticket>(&gate);
  EXPECT_EQ(gate.Shut(std::chrono::milliseconds(20), [] { return false; }), -ETIMEDOUT);
  std::atomic<bool> cancel{false};
  auto shutting = std::async(std::launch::async,
                             [&] { return gate.Shut(std::chrono::hours(1), [&] { return cancel.load(); }); });
  cancel = true;
  while (shutting.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) gate.Poke();
  EXPECT_EQ(shutting.get(), -ECANCELED);
  { WriteGate::Ticket another(&gate); }
  inside.reset();
  EXPECT_EQ(gate.Shut(std::chrono::hours(1), [] { return false; }), 0);
  gate.Open();
}

TEST(WriteGate, WhoDoesNotWaitStaysOutsideWhileItIsShut) {
  WriteGate gate;
  gate.Shut();
  EXPECT_FALSE(WriteGate::Ticket(&gate, std::try_to_lock).inside());
  gate.Open();
  WriteGate::Ticket ticket(&gate, std::try_to_lock);
  EXPECT_TRUE(ticket.inside());
  EXPECT_EQ(gate.Shut(std::chrono::milliseconds(1), [] { return false; }), -ETIMEDOUT) << "it is inside";
}

TEST_F(EngineTest, OutOfRangeIoIsRefusedWithoutASideEffect) {
  BeginAllPending(4);
  EXPECT_EQ(WriteByte(kSize, 1), -EINVAL);
  EXPECT_EQ(WriteByte(kSize - 1, 1, 2), -EINVAL);
  EXPECT_EQ(engine_->WriteZeroes(~0ull - 5, 10, {}), -EINVAL);
  EXPECT_EQ(engine_->Discard(kSize - 1, ~0ull, false), -EINVAL);
  snapbak_event none;
  EXPECT_FALSE(NextEvent(&none));
}

TEST_F(EngineTest, TwoEnginesOverOneImageAreRefused) {
  std::unique_ptr<Engine> second;
  EXPECT_EQ(Engine::Open(path_, {}, &second), -EBUSY);
}

// Blocks of 1 MiB, so that a capture of many takes milliseconds: time enough to
// write to the last of them between the clearing of its bit and its reading.
TEST(EngineInflight, AWriteToABlockThatIsBeingCapturedWaitsForTheCapture) {
  constexpr uint64_t kLarge = 1 << 20;
  constexpr uint64_t kCount = 48;
  const std::vector<uint8_t> old(kLarge, 0x11);
  const std::string path = TemporaryImage(std::vector<uint8_t>(kCount * kLarge, 0x11));
  std::unique_ptr<Engine> opened;
  ASSERT_EQ(Engine::Open(path, {}, &opened), 0);
  unlink(path.c_str());
  const std::shared_ptr<Engine> engine = std::move(opened);
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(engine->Write(old.data(), kLarge, (kCount - 1) * kLarge, false), 0);
    EngineDriver driver(engine);
    UniqueFd lower;
    snapbak_open open{};
    open.size = sizeof open;
    ASSERT_EQ(driver.Open(&open, &lower), 0);
    snapbak_setup setup{};
    setup.size = sizeof setup;
    setup.block_shift = 20;
    setup.nr_slots = kCount;
    setup.hold_timeout_ms = 60000;
    SharedMemory memory;
    ASSERT_EQ(driver.Setup(&setup, &memory), 0);
    snapbak_bitmap_set_range(memory.bitmap(), 0, kCount);
    snapbak_start start{};
    start.size = sizeof start;
    start.timeout_ms = 5000;
    ASSERT_EQ(driver.Start(&start), 0);

    std::thread whole([&] { EXPECT_EQ(engine->WriteZeroes(0, kCount * kLarge, {}), 0); });
    while (snapbak_bitmap_test(memory.bitmap(), kCount - 1)) std::this_thread::yield();
    const uint8_t byte = 0xee;
    EXPECT_EQ(engine->Write(&byte, 1, (kCount - 1) * kLarge + kLarge - 1, false), 0);
    whole.join();

    snapbak_ring events = memory.EventRing();
    ASSERT_EQ(snapbak_ring_ready(&events), static_cast<int64_t>(kCount));
    for (uint32_t i = 0; i < kCount; ++i) {
      const snapbak_event event = snapbak_ring_get_event(&events, i);
      if (event.block == kCount - 1) {
        EXPECT_EQ(memory.slot(event.slot)[kLarge - 1], 0x11);
      }
    }
  }
}

TEST_F(EngineTest, OverlappingWritersSeeOneCaptureEachBlockAndLoseNoWrite) {
  BeginAllPending(8);
  std::atomic<int> running{4};
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&, w] {
      std::mt19937 random(w);
      for (int i = 0; i < 400; ++i) {
        const uint64_t offset = random() % (kSize - 3 * kBlock);
        ASSERT_EQ(WriteByte(offset, static_cast<uint8_t>(w), 1 + random() % (3 * kBlock)), 0);
      }
      --running;
    });
  }
  std::vector<int> captures(kBlocks, 0);
  snapbak_event event{};
  // The library, by hand: returns slots, claims what is wanted.
  while (running > 0 || snapbak_ring_ready(&events_) > 0) {
    if (!NextEvent(&event)) {
      KickIfWaiting();
      std::this_thread::yield();
      continue;
    }
    if (event.type == SNAPBAK_EVENT_CAPTURED) {
      ++captures[event.block];
      ExpectOldContent(memory_.slot(event.slot), event.block);
      ReturnSlot(event.slot);
    } else if (event.type == SNAPBAK_EVENT_WANTED) {
      const std::vector<uint8_t> ours = Lower(event.block);
      if (snapbak_bitmap_claim(memory_.bitmap(), event.block, 1)) {
        ++captures[event.block];
        ExpectOldContent(ours.data(), event.block);
      }
      KickIfWaiting();
    }
  }
  for (auto& writer : writers) writer.join();
  for (uint64_t b = 0; b < kBlocks; ++b) EXPECT_LE(captures[b], 1) << b;
  EXPECT_EQ(Counter(SNAPBAK_C_HELD_NOW), 0u);
}

// --- hints

snapbak_hint HintAt(uint64_t offset, uint64_t length) {
  snapbak_hint hint{};
  hint.size = sizeof hint;
  hint.extent = {offset, length};
  return hint;
}

TEST_F(EngineTest, AHintOfAnybodyReachesTheArmedSession) {
  EngineDriver other(engine_);
  snapbak_hint hint = HintAt(4096, 512);
  EXPECT_EQ(-ENODATA, other.Hint(&hint)) << "there is no session";
  Begin(1);
  EXPECT_EQ(-ENODATA, other.Hint(&hint)) << "it is not armed yet";
  Arm();
  snapbak_store_relaxed(&memory_.header()->library_asleep, 1u);
  EXPECT_EQ(0, other.Hint(&hint));
  EXPECT_EQ(0, driver_->WaitEvent(never_[0], 20000)) << "it wakes the library";
  EXPECT_EQ(1u, Counter(SNAPBAK_C_HINTS));
  uint32_t mine = 0;
  snapbak_extent out[SNAPBAK_NR_HINTS];
  ASSERT_EQ(1u, snapbak_hints_take(memory_.header(), &mine, out));
  EXPECT_EQ(4096u, out[0].offset);
  EXPECT_EQ(512u, out[0].length);
  snapbak_abort abort{};
  abort.size = sizeof abort;
  abort.reason = SNAPBAK_REASON_ABORTED;
  ASSERT_EQ(0, driver_->Abort(&abort));
  EXPECT_EQ(-ENODATA, other.Hint(&hint)) << "it is over";
}

TEST_F(EngineTest, AHintThatIsNoneIsRefused) {
  BeginAllPending(1);
  for (const auto& [offset, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 0}, {kSize, 1}, {kSize + 1, 1}, {0, kSize + 1}, {1, kSize}, {~0ull, 2}, {2, ~0ull}}) {
    snapbak_hint hint = HintAt(offset, length);
    EXPECT_EQ(-EINVAL, driver_->Hint(&hint)) << offset << " " << length;
  }
  snapbak_hint hint = HintAt(0, 1);
  hint.flags = 1;
  EXPECT_EQ(-EINVAL, driver_->Hint(&hint));
  hint = HintAt(0, 1);
  hint.dev = 1;
  EXPECT_EQ(-EINVAL, driver_->Hint(&hint));
  hint = HintAt(0, 1);
  hint.reserved[3] = 1;
  EXPECT_EQ(-EINVAL, driver_->Hint(&hint));
  EXPECT_EQ(0u, Counter(SNAPBAK_C_HINTS));
  hint = HintAt(0, kSize);
  EXPECT_EQ(0, driver_->Hint(&hint));
}

TEST_F(EngineTest, HintsDependOnNothingThatTheLibraryWrites) {
  BeginAllPending(1);
  snapbak_shm* header = memory_.header();
  for (uint32_t i = 0; i < 300; i++) {
    memset(header->hints, 0xff, sizeof(header->hints));
    header->hint_head.value = i * 7919;
    header->hint_tail.value = ~i;
    snapbak_hint hint = HintAt(i, 1);
    ASSERT_EQ(0, driver_->Hint(&hint));
    EXPECT_EQ(i + 1, header->hint_head.value) << "the driver's own position";
    EXPECT_EQ(i, header->hints[i % SNAPBAK_NR_HINTS].offset);
  }
  EXPECT_EQ(SNAPBAK_STATE_ARMED, State());
}

}  // namespace
}  // namespace snapbak
