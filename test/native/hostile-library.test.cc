// SPDX-License-Identifier: MIT
// Hostile libraries at the control socket while applications write: nothing
// crashes, every write is acknowledged in time, the image holds what was
// written to it, byte for byte, and the next backup is possible. With the
// sanitizers of this build in the driver.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "hostile-peer.h"
#include "native/driver/control_server.h"
#include "native/driver/remote_driver.h"

namespace snapbak {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kSize = 64 * 4096 + 1300;
constexpr int kWriters = 3;
constexpr int kAttackers = 4;
// A hold, a delay by the throttle, and what a loaded machine under a sanitizer adds.
constexpr auto kBound = std::chrono::seconds(20);

// SNAPBAK_HOSTILE_SECONDS and SNAPBAK_HOSTILE_SEED: for a longer look.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : strtoull(text, nullptr, 10);
}

// Writes to stretches of its own, which share blocks with those of the others.
struct Writer {
  Writer(Engine* engine, std::vector<uint8_t>* model, int number, uint64_t seed)
      : engine_(engine), model_(model), number_(static_cast<uint64_t>(number)), random_(seed) {}

  void Run(const std::atomic<bool>& stop) {
    while (!stop.load()) Once();
  }

  void Once() {
    constexpr uint64_t kStretch = 1536;
    const uint64_t index = random_() % ((kSize + kStretch - 1) / kStretch / kWriters) * kWriters + number_;
    const uint64_t begin = index * kStretch + random_() % kStretch;
    const uint64_t end = std::min<uint64_t>((index + 1) * kStretch, kSize);
    if (begin >= end) return;
    const auto length = static_cast<uint32_t>(1 + random_() % (end - begin));
    const bool zeroes = random_() % 8 == 0;
    std::vector<uint8_t> data(length, 0);
    if (!zeroes) {
      for (uint8_t& byte : data) byte = static_cast<uint8_t>(random_());
    }
    const auto began = Clock::now();
    const int ret = zeroes ? engine_->WriteZeroes(begin, length, ZeroOptions{})
                           : engine_->Write(data.data(), length, begin, random_() % 32 == 0);
    longest = std::max(longest, Clock::now() - began);
    if (ret != 0) ++wrong;
    std::copy(data.begin(), data.end(), model_->begin() + static_cast<ptrdiff_t>(begin));
    std::vector<uint8_t> back(length);
    if (engine_->Read(back.data(), length, begin) != 0 || back != data) ++wrong;
    ++writes;
  }

  uint64_t writes = 0, wrong = 0;
  Clock::duration longest{};

 private:
  Engine* engine_;
  std::vector<uint8_t>* model_;
  const uint64_t number_;
  std::mt19937_64 random_;
};

TEST(HostileLibrary, HarmsNeitherTheDriverNorTheOrigin) {
  const uint64_t seed = FromEnvironment("SNAPBAK_HOSTILE_SEED", 1);
  const auto duration = std::chrono::seconds(FromEnvironment("SNAPBAK_HOSTILE_SECONDS", 4));
  char directory[] = "/tmp/snapbak-hostile-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string image = std::string(directory) + "/image";
  const std::string path = std::string(directory) + "/control";
  std::vector<uint8_t> model(kSize);
  for (uint64_t i = 0; i < kSize; ++i) model[i] = static_cast<uint8_t>(i * 31 + i / 4096);
  UniqueFd file(open(image.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_EQ(write(file.get(), model.data(), kSize), static_cast<ssize_t>(kSize));

  EngineOptions options;
  options.driver = SNAPBAK_DRIVER_USER;
  std::unique_ptr<Engine> engine;
  ASSERT_EQ(Engine::Open(image, options, &engine), 0);
  std::unique_ptr<ControlServer> server;
  ASSERT_EQ(ControlServer::Listen(path, engine.get(), {}, &server), 0);
  ASSERT_EQ(server->Start(), 0);

  HostileCounts counts;
  std::atomic<bool> peace{false}, stop{false};
  std::vector<Writer> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.emplace_back(engine.get(), &model, i, seed * 100 + static_cast<uint64_t>(i));
  }
  std::vector<std::thread> threads, attackers;
  for (Writer& writer : writers) threads.emplace_back([&] { writer.Run(stop); });
  for (uint64_t i = 0; i < kAttackers; ++i) {
    attackers.emplace_back([&, i] {
      HostilePeer peer(path, seed * 1000 + i, &counts);
      EXPECT_TRUE(peer.Attack(peace)) << "the server is gone";
    });
  }
  const auto end = Clock::now() + duration;
  const auto patience = end + 3 * kBound;
  while (Clock::now() < end || (!counts.Enough() && Clock::now() < patience)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(counts.Enough()) << "it was no attack";
  peace.store(true);
  for (std::thread& thread : attackers) thread.join();

  // The next library finds a driver that works.
  std::unique_ptr<Driver> driver;
  ASSERT_EQ(RemoteDriver::Connect(path, &driver), 0);
  snapbak_open opened{};
  int ret = -EBUSY;
  const auto soon = Clock::now() + kBound;
  while (ret == -EBUSY && Clock::now() < soon) {  // the last attacker's connection may still be ending
    opened = {};
    opened.size = sizeof(opened);
    UniqueFd lower;
    ret = driver->Open(&opened, &lower);
  }
  EXPECT_EQ(ret, 0);
  snapbak_setup setup{};
  setup.size = sizeof(setup);
  setup.block_shift = 12;
  setup.nr_slots = 128;
  setup.hold_timeout_ms = 30000;
  SharedMemory memory;
  ASSERT_EQ(driver->Setup(&setup, &memory), 0);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  snapbak_start start{};
  start.size = sizeof(start);
  start.timeout_ms = 10000;
  EXPECT_EQ(driver->Start(&start), 0);
  for (uint64_t block = 0; block < memory.geometry().nr_blocks; ++block) {
    snapbak_bitmap_test_and_clear(memory.bitmap(), block);
  }
  snapbak_finish finish{};
  finish.size = sizeof(finish);
  EXPECT_EQ(driver->Finish(&finish), 0);
  driver.reset();

  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  server->Stop();

  uint64_t writes = 0;
  Clock::duration longest{};
  for (const Writer& writer : writers) {
    EXPECT_EQ(writer.wrong, 0u) << "writes that failed or were not read back";
    EXPECT_LT(writer.longest, kBound);
    writes += writer.writes;
    longest = std::max(longest, writer.longest);
  }
  std::vector<uint8_t> now(kSize);
  ASSERT_EQ(pread(file.get(), now.data(), kSize, 0), static_cast<ssize_t>(kSize));
  EXPECT_TRUE(now == model) << "the origin holds something that no application wrote";
  struct stat st;
  ASSERT_EQ(fstat(file.get(), &st), 0);
  EXPECT_EQ(st.st_size, static_cast<off_t>(kSize));

  printf("%llu writes, the longest %lld ms; %llu sessions, %llu requests, %llu captures, %llu finished\n",
         static_cast<unsigned long long>(writes),
         static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count()),
         static_cast<unsigned long long>(counts.started.load()),
         static_cast<unsigned long long>(counts.requests.load()),
         static_cast<unsigned long long>(counts.captured.load()),
         static_cast<unsigned long long>(counts.finished.load()));
  engine.reset();
  unlink(image.c_str());
  rmdir(directory);
}

}  // namespace
}  // namespace snapbak
