// SPDX-License-Identifier: MIT
// The heat table: bounded, as fine as its bound allows, and written from
// everywhere at once; and how it comes from the engine to the library.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "copy-session-fixture.h"
#include "kernel-module/core/snapbak_heat.h"
#include "native/driver/engine_driver.h"
#include "temporary-image.h"

namespace snapbak {
namespace {

constexpr uint64_t kRegion = 65536;

TEST(Heat, RegionsAreAsSmallAsTheirNumberAllows) {
  EXPECT_EQ(16u, snapbak_heat_shift(1));
  EXPECT_EQ(1u, snapbak_heat_regions(1));
  EXPECT_EQ(16u, snapbak_heat_shift(4ull << 30));
  EXPECT_EQ(65536u, snapbak_heat_regions(4ull << 30));
  EXPECT_EQ(17u, snapbak_heat_shift((4ull << 30) + 1));
  EXPECT_EQ(32769u, snapbak_heat_regions((4ull << 30) + 1));
  EXPECT_EQ(24u, snapbak_heat_shift(1ull << 40));
  for (uint64_t size = 1; size < 1ull << 62; size = size * 3 + 1) {
    EXPECT_LE(snapbak_heat_regions(size), static_cast<uint32_t>(SNAPBAK_MAX_HEAT));
    EXPECT_GE(static_cast<uint64_t>(snapbak_heat_regions(size)) << snapbak_heat_shift(size), size);
  }
}

TEST(Heat, AWriteTouchesItsRegionsAndNoOther) {
  std::vector<__u32> ticks(8);
  snapbak_heat_touch(ticks.data(), 0, 0, 1);
  snapbak_heat_touch(ticks.data(), 2, 4, 2);
  snapbak_heat_touch(ticks.data(), 4, 4, 3);
  snapbak_heat_touch(ticks.data(), 7, 7, 4);
  EXPECT_EQ((std::vector<__u32>{1, 0, 2, 2, 3, 0, 0, 4}), ticks);
}

TEST(Heat, IsToldWhileWritersGoOn) {
  constexpr uint32_t kRegions = 512;
  std::vector<__u32> ticks(kRegions), area(kRegions, ~0u);
  auto shm = std::make_unique<snapbak_shm>();
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (uint32_t w = 0; w < 3; w++) {
    writers.emplace_back([&, w] {
      for (uint32_t n = 1; !stop; n++) snapbak_heat_touch(ticks.data(), n % kRegions, n % kRegions, 1 + w);
    });
  }
  for (int i = 0; i < 200; i++) {
    snapbak_heat_publish(shm.get(), area.data(), ticks.data(), kRegions, 7);
    EXPECT_EQ(7u, snapbak_load_acquire(&shm->heat_now));
    EXPECT_TRUE(std::all_of(area.begin(), area.end(), [](__u32 tick) { return tick <= 3; }));
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

// An engine of ten regions and a bit.
class EngineHeat : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 10 * kRegion + 4096;

  void SetUp() override {
    path_ = TemporaryImage(std::vector<uint8_t>(kSize));
    std::unique_ptr<Engine> engine;
    ASSERT_EQ(0, Engine::Open(path_, {}, &engine));
    engine_ = std::move(engine);
    driver_ = std::make_unique<EngineDriver>(engine_);
  }
  void TearDown() override {
    driver_.reset();
    engine_.reset();
    unlink(path_.c_str());
  }

  int SetUpSession(uint32_t flags, uint32_t pad = 0) {
    snapbak_open open{};
    open.size = sizeof open;
    EXPECT_EQ(0, driver_->Open(&open, &lower_));
    snapbak_setup setup{};
    setup.size = sizeof setup;
    setup.block_shift = 16;
    setup.nr_slots = 1;
    setup.hold_timeout_ms = 60000;
    setup.flags = flags;
    setup.pad0 = pad;
    return driver_->Setup(&setup, &memory_);
  }
  void Start() {
    snapbak_start start{};
    start.size = sizeof start;
    start.timeout_ms = 5000;
    ASSERT_EQ(0, driver_->Start(&start));
  }
  // The regions that were ever written.
  std::vector<uint32_t> Hot() const {
    std::vector<uint32_t> hot;
    for (uint32_t i = 0; i < memory_.geometry().nr_heat; i++) {
      if (memory_.heat()[i] != 0) hot.push_back(i);
    }
    return hot;
  }

  std::string path_;
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<EngineDriver> driver_;
  UniqueFd lower_;
  SharedMemory memory_;
};

TEST_F(EngineHeat, WritesAndZeroesCountFromTheOpeningOnAndDiscardsDoNot) {
  const std::vector<uint8_t> data(2 * kRegion, 1);
  ASSERT_EQ(0, engine_->Write(data.data(), 4096, kRegion, false));
  ASSERT_EQ(0, engine_->Write(data.data(), 8192, 4 * kRegion - 4096, false));  // across a border
  ASSERT_EQ(0, engine_->Discard(6 * kRegion, kRegion, false));
  ASSERT_EQ(0, engine_->WriteZeroes(8 * kRegion, 512, {}));
  ASSERT_EQ(0, engine_->Write(data.data(), 1, kSize - 1, false));  // the short last region
  EXPECT_EQ(-EINVAL, engine_->Write(data.data(), 2, kSize - 1, false));
  ASSERT_EQ(0, SetUpSession(SNAPBAK_SETUP_HEAT));
  EXPECT_EQ(11u, memory_.geometry().nr_heat);
  EXPECT_EQ(0u, memory_.header()->heat_now) << "nothing is told before the start";
  Start();
  EXPECT_NE(0u, memory_.header()->heat_now);
  EXPECT_EQ((std::vector<uint32_t>{1, 3, 4, 8, 10}), Hot());
  ASSERT_EQ(0, engine_->Write(data.data(), 4096, 0, false));
  EXPECT_EQ((std::vector<uint32_t>{1, 3, 4, 8, 10}), Hot()) << "it stays as it was";
}

TEST_F(EngineHeat, LaterWritesHaveLaterTicks) {
  const std::vector<uint8_t> data(4096, 1);
  ASSERT_EQ(0, engine_->Write(data.data(), 4096, kRegion, false));
  // until the clock has gone on by a tick
  struct timespec begin, now;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  do {
    ASSERT_EQ(0, engine_->Write(data.data(), 4096, 2 * kRegion, false));
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 300);
  ASSERT_EQ(0, SetUpSession(SNAPBAK_SETUP_HEAT));
  Start();
  EXPECT_LT(memory_.heat()[1], memory_.heat()[2]);
  EXPECT_LE(memory_.heat()[2], memory_.header()->heat_now);
}

TEST_F(EngineHeat, IsThereOnlyForThoseWhoAsk) {
  snapbak_query query{};
  query.size = sizeof query;
  ASSERT_EQ(0, driver_->Query(&query));
  EXPECT_TRUE(query.features & SNAPBAK_F_HEAT);
  ASSERT_EQ(0, SetUpSession(0));
  EXPECT_EQ(nullptr, memory_.heat());
  Start();
  EXPECT_EQ(0u, memory_.header()->heat_now);
}

TEST_F(EngineHeat, FlagsThatNobodyKnowsAreRefused) {
  EXPECT_EQ(-EINVAL, SetUpSession(SNAPBAK_SETUP_HEAT << 1));
  driver_ = std::make_unique<EngineDriver>(engine_);
  EXPECT_EQ(-EINVAL, SetUpSession(SNAPBAK_SETUP_HEAT, 1));
}

// A library may write into the area and the numbers that describe it what it likes.
TEST_F(EngineHeat, DependsOnNothingThatTheLibraryWrites) {
  ASSERT_EQ(0, SetUpSession(SNAPBAK_SETUP_HEAT));
  snapbak_shm* header = memory_.header();
  header->heat_off = ~0ull;
  header->nr_heat = ~0u;
  header->heat_shift = ~0u;
  std::fill_n(memory_.heat(), memory_.geometry().nr_heat, ~0u);
  const uint8_t data = 1;
  ASSERT_EQ(0, engine_->Write(&data, 1, 5 * kRegion, false));
  Start();
  EXPECT_EQ((std::vector<uint32_t>{5}), Hot());
}

TEST_F(CopySessionTest, GivesTheHeatOnceItIsThere) {
  Make();
  EXPECT_TRUE(session_->Heat().ticks.empty()) << "before the start";
  driver_.mine.heat()[3] = 41;
  snapbak_store_release(&driver_.mine.header()->heat_now, 42u);
  const HeatPicture heat = session_->Heat();
  EXPECT_EQ(kRegion, heat.region_size);
  EXPECT_EQ(42u, heat.now);
  EXPECT_EQ(snapbak_heat_regions(kSize), heat.ticks.size());
  EXPECT_EQ(41u, heat.ticks.at(3));
}

}  // namespace
}  // namespace snapbak
