// SPDX-License-Identifier: MIT
// One start instant for several sessions. An application writes a number to one
// origin and, when that is done, to the next: whatever the start instant, no
// origin's image may be ahead of the one before it, nor more than one behind.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "copy-rig.h"
#include "native/copy/group_start.h"
#include "native/driver/engine_driver.h"
#include "temporary-image.h"

namespace snapbak {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 8;  // a writer has a block of its own on every origin

// An origin and, until it is ended, a session on it.
struct Disk {
  Disk() {
    path = TemporaryImage(std::vector<uint8_t>(kBlock * kBlocks));
    std::unique_ptr<Engine> opened;
    EXPECT_EQ(Engine::Open(path, {}, &opened), 0);
    engine = std::move(opened);
  }
  ~Disk() {
    driver.reset();
    engine.reset();
    unlink(path.c_str());
  }

  void Begin() {
    driver = std::make_unique<EngineDriver>(engine);
    snapbak_open open{};
    open.size = sizeof open;
    ASSERT_EQ(driver->Open(&open, &lower), 0);
    snapbak_setup setup{};
    setup.size = sizeof setup;
    setup.block_shift = 12;
    setup.nr_slots = kBlocks;
    setup.hold_timeout_ms = 60000;
    ASSERT_EQ(driver->Setup(&setup, &memory), 0);
    snapbak_bitmap_set_range(memory.bitmap(), 0, kBlocks);
  }

  int Write(uint64_t block, uint64_t number) {
    return engine->Write(&number, sizeof number, block * kBlock, false);
  }

  // The number that the block had at the start instant: captured, or still there.
  uint64_t AtStart(uint64_t block) {
    uint64_t number = 0;
    // Claimed first: from then on nobody captures it.
    const bool pending = snapbak_bitmap_test_and_clear(memory.bitmap(), block);
    EXPECT_FALSE(pending) << "nobody has written to it since";
    for (;;) {
      snapbak_ring events = memory.EventRing();
      for (uint32_t i = 0; i < snapbak_ring_ready(&events); ++i) {
        const snapbak_event event = snapbak_ring_get_event(&events, i);
        if (event.block != block) continue;
        memcpy(&number, memory.slot(event.slot), sizeof number);
        return number;
      }
      std::this_thread::yield();  // its capture is under way
    }
  }

  bool WasWritten(uint64_t block) { return !snapbak_bitmap_test(memory.bitmap(), block); }

  std::string path;
  std::shared_ptr<Engine> engine;
  std::unique_ptr<Driver> driver;
  UniqueFd lower;
  SharedMemory memory;
};

int Abort(Driver* driver) {
  snapbak_abort abort{};
  abort.size = sizeof abort;
  abort.reason = SNAPBAK_REASON_ABORTED;
  return driver->Abort(&abort);
}

// Runs every member on a thread of its own, as sessions do.
std::vector<GroupStart::End> RunAll(GroupStart* group, const std::vector<std::pair<Driver*, int>>& members,
                                    std::vector<snapbak_start>* starts) {
  starts->assign(members.size(), snapbak_start{});
  std::vector<std::future<GroupStart::End>> runs;
  for (size_t i = 0; i < members.size(); ++i) {
    runs.push_back(std::async(std::launch::async, [group, i, member = members[i], start = &(*starts)[i]] {
      return group->Run(i, member.first, member.second, start);
    }));
  }
  std::vector<GroupStart::End> ends;
  for (std::future<GroupStart::End>& run : runs) ends.push_back(run.get());
  return ends;
}

// Writers with a block each, which write ascending numbers to all disks in their order, until they go.
class Writers {
 public:
  Writers(std::vector<std::function<int(uint64_t block, uint64_t number)>> order, uint64_t writers) {
    for (uint64_t block = 0; block < writers; ++block) {
      threads_.emplace_back([this, order, block] {
        for (uint64_t number = 1; !stop_.load(std::memory_order_relaxed); ++number) {
          for (const auto& write : order) EXPECT_EQ(write(block, number), 0);
        }
      });
    }
  }
  ~Writers() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

TEST(GroupStart, NoDiskIsAheadOfTheOneThatIsWrittenBeforeIt) {
  constexpr uint64_t kWriters = 2;
  constexpr int kRounds = 30;
  Disk disks[3];
  std::vector<std::function<int(uint64_t, uint64_t)>> order;
  for (Disk& disk : disks) {
    order.push_back([&disk](uint64_t block, uint64_t number) { return disk.Write(block, number); });
  }
  Writers writers(order, kWriters);
  for (int round = 0; round < kRounds; ++round) {
    for (Disk& disk : disks) disk.Begin();
    // Now the first, now the last of those that are written is the first of those that start.
    std::vector<std::pair<Driver*, int>> members;
    for (Disk& disk : disks) members.emplace_back(disk.driver.get(), disk.lower.get());
    if (round % 2 == 1) std::reverse(members.begin(), members.end());
    GroupStart group(members.size(), 10000);
    std::vector<snapbak_start> starts;
    for (const GroupStart::End& end : RunAll(&group, members, &starts)) ASSERT_EQ(end.error, 0) << end.stage;
    for (uint64_t block = 0; block < kWriters; ++block) {
      for (Disk& disk : disks) {
        while (!disk.WasWritten(block)) std::this_thread::yield();
      }
      const uint64_t first = disks[0].AtStart(block);
      const uint64_t second = disks[1].AtStart(block);
      const uint64_t third = disks[2].AtStart(block);
      EXPECT_LE(second, first) << "round " << round;
      EXPECT_LE(third, second) << "round " << round;
      EXPECT_LE(first, third + 1) << "round " << round;
    }
    for (Disk& disk : disks) disk.driver.reset();
  }
}

// What a kernel origin is for the group: START names others, and fixes an instant
// of its own, at which this one looks at what applications have written.
class KernelLike : public FakeDriver {
 public:
  explicit KernelLike(const std::atomic<uint64_t>* number)
      : FakeDriver(kBlock * kBlocks, 12, 4), number_(number), control_(eventfd(0, EFD_CLOEXEC)) {}
  int StartDescriptor() const override { return control_.get(); }
  int StopWrites(snapbak_stop_writes*) override {
    ADD_FAILURE() << "a kernel origin is stopped by its START";
    return -ENOTTY;
  }
  int Start(snapbak_start* start) override {
    ++starts;
    if (start->nr_others != 0) {
      const int* others = reinterpret_cast<const int*>(start->others);
      named.assign(others, others + start->nr_others);
    }
    at_start = number_->load();
    start->start_realtime_ns = 12345;
    return error;
  }
  int Abort(snapbak_abort*) override {
    ++aborts;
    return 0;
  }

  uint64_t at_start = 0;
  std::vector<int> named;
  int starts = 0, aborts = 0, error = 0;

 private:
  const std::atomic<uint64_t>* const number_;
  UniqueFd control_;
};

TEST(GroupStart, KernelOriginsStartAsOneWhileTheOthersStandStill) {
  constexpr int kRounds = 30;
  Disk before, after;
  std::atomic<uint64_t> between{0};  // what is written to the kernel origins
  KernelLike kernel(&between), another(&between);
  Writers writers({[&](uint64_t block, uint64_t number) { return before.Write(block, number); },
                   [&](uint64_t, uint64_t number) {
                     between = number;
                     return 0;
                   },
                   [&](uint64_t block, uint64_t number) { return after.Write(block, number); }},
                  1);
  for (int round = 1; round <= kRounds; ++round) {
    before.Begin();
    after.Begin();
    GroupStart group(4, 10000);
    std::vector<snapbak_start> starts;
    const auto ends = RunAll(&group,
                             {{before.driver.get(), before.lower.get()},
                              {&kernel, -1},
                              {&another, -1},
                              {after.driver.get(), after.lower.get()}},
                             &starts);
    for (const GroupStart::End& end : ends) ASSERT_EQ(end.error, 0) << end.stage;
    ASSERT_EQ(kernel.starts + another.starts, round) << "one request for both";
    const KernelLike& leader = kernel.named.empty() ? another : kernel;
    const KernelLike& other = kernel.named.empty() ? kernel : another;
    ASSERT_EQ(leader.named, std::vector<int>{other.StartDescriptor()});
    EXPECT_EQ(starts[1].start_realtime_ns, 12345u);
    EXPECT_EQ(starts[2].start_realtime_ns, 12345u);
    while (!before.WasWritten(0) || !after.WasWritten(0)) std::this_thread::yield();
    const uint64_t first = before.AtStart(0), third = after.AtStart(0);
    EXPECT_LE(leader.at_start, first);
    EXPECT_LE(third, leader.at_start);
    EXPECT_LE(first, third + 1);
    kernel.named.clear();
    another.named.clear();
    before.driver.reset();
    after.driver.reset();
  }
}

// Which of them comes first says nothing: who stands on another has to be frozen before it.
TEST(GroupStart, KernelOriginsAreStartedInTheOrderOfTheirNumbers) {
  constexpr int kRounds = 30;
  const std::atomic<uint64_t> number{0};
  KernelLike first(&number), second(&number), third(&number);
  for (int round = 1; round <= kRounds; ++round) {
    GroupStart group(3, 10000);
    snapbak_start starts[3] = {};
    std::vector<std::future<int>> runs;
    const std::vector<KernelLike*> in_order = {&first, &second, &third};
    for (size_t i = in_order.size(); i-- > 0;) {
      runs.push_back(std::async(std::launch::async, [&group, i, driver = in_order[i], start = &starts[i]] {
        return group.Run(i, driver, -1, start).error;
      }));
    }
    for (std::future<int>& run : runs) ASSERT_EQ(run.get(), 0);
    ASSERT_EQ(first.starts, round);
    ASSERT_EQ(first.named, (std::vector<int>{second.StartDescriptor(), third.StartDescriptor()}));
  }
  EXPECT_EQ(second.starts + third.starts, 0);
}

// Again and again: one that fails at once must not be taken for a failure of the step before it.
TEST(GroupStart, OneThatFailsLeavesNoneStopped) {
  Disk disk;
  const std::atomic<uint64_t> number{0};
  KernelLike kernel(&number);
  kernel.error = -EBUSY;
  for (int round = 0; round < 100; ++round) {
    disk.Begin();
    GroupStart group(2, 600'000);
    std::vector<snapbak_start> starts;
    const auto ends = RunAll(&group, {{disk.driver.get(), disk.lower.get()}, {&kernel, -1}}, &starts);
    ASSERT_EQ(ends[0].error, -ECANCELED) << "it is not the one that failed";
    ASSERT_EQ(ends[1].error, -EBUSY);
    ASSERT_STREQ(ends[1].stage, "start");
    auto write = std::async(std::launch::async, [&] { return disk.Write(0, 1); });
    ASSERT_EQ(Abort(disk.driver.get()), 0);
    ASSERT_EQ(write.get(), 0);
    disk.driver.reset();
  }
}

// An older driver does not know how to stop writes.
class Older : public FakeDriver {
 public:
  Older() : FakeDriver(kBlock * kBlocks, 12, 4) {}
  int Start(snapbak_start*) override {
    ADD_FAILURE() << "it must not start by itself";
    return 0;
  }
};

TEST(GroupStart, ADriverThatCannotStopWritesStartsNobody) {
  Disk disk;
  Older older;
  disk.Begin();
  GroupStart group(2, 10000);
  std::vector<snapbak_start> starts;
  const auto ends =
      RunAll(&group, {{&older, disk.lower.get()}, {disk.driver.get(), disk.lower.get()}}, &starts);
  EXPECT_EQ(ends[0].error, -ENOTTY);
  EXPECT_STREQ(ends[0].stage, "stop");
  EXPECT_EQ(ends[1].error, -ECANCELED);
  EXPECT_EQ(Abort(disk.driver.get()), 0);
  EXPECT_EQ(disk.Write(0, 1), 0);
}

TEST(GroupStart, AMemberThatCannotTakePartKeepsNobodyWaiting) {
  Disk disk;
  disk.Begin();
  GroupStart group(2, 10000);
  std::vector<snapbak_start> starts;
  auto run = std::async(std::launch::async, [&] {
    snapbak_start start{};
    return group.Run(0, disk.driver.get(), disk.lower.get(), &start).error;
  });
  group.Withdraw();
  EXPECT_EQ(run.get(), -ECANCELED);
  EXPECT_EQ(disk.Write(0, 1), 0) << "its writes were not stopped yet";
}

TEST(GroupStart, ALowerDeviceThatCannotBeFlushedStartsNobody) {
  Disk first, second;
  first.Begin();
  second.Begin();
  GroupStart group(2, 10000);
  std::vector<snapbak_start> starts;
  const auto ends =
      RunAll(&group, {{first.driver.get(), -1}, {second.driver.get(), second.lower.get()}}, &starts);
  EXPECT_EQ(ends[0].error, -EBADF);
  EXPECT_STREQ(ends[0].stage, "flush");
  EXPECT_EQ(ends[1].error, -ECANCELED);
}

}  // namespace
}  // namespace snapbak
