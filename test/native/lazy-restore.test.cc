// SPDX-License-Identifier: MIT
// A restore that is used before it is done: every byte is the backup's or an
// application's, from the first moment, whoever brings it, and after a crash.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <future>
#include <random>

#include "copy-rig.h"
#include "native/copy/crc32c.h"
#include "native/copy/file_io.h"
#include "native/copy/lazy_restore.h"

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kBlocks = 900;
constexpr uint64_t kSize = (kBlocks - 1) * kBlock + 777;  // a short last block
constexpr uint8_t kJunk = 0xee;                           // what the destination held before

uint64_t Bytes(uint64_t block) { return std::min<uint64_t>(kBlock, kSize - block * kBlock); }

class LazyRestoreTest : public testing::Test {
 protected:
  void SetUp() override {
    image_bytes_.assign(kSize, 0);
    for (uint64_t block = 0; block < kBlocks; block++) {
      if (block % 7 == 3 || (block > 300 && block < 640)) continue;  // holes
      const auto bytes =
          block % 11 == 5 ? std::vector<uint8_t>(Bytes(block), 0) : RandomBytes(Bytes(block), block);
      std::copy(bytes.begin(), bytes.end(), image_bytes_.begin() + block * kBlock);
      ASSERT_EQ(0, WriteAll(image_.fd(), bytes.data(), bytes.size(), block * kBlock));
    }
    for (uint64_t block = 0; block < kBlocks; block++) {
      const uint32_t sum = Crc32c(0, &image_bytes_[block * kBlock], Bytes(block));
      ASSERT_EQ(0, checksums_.Put(block, &sum, 1));
    }
    const std::vector<uint8_t> junk(kSize, kJunk);
    ASSERT_EQ(0, WriteAll(destination_.fd(), junk.data(), junk.size(), 0));
    options_.image_size = kSize;
    options_.block_size = kBlock;
    options_.threads = 0;
    options_.sync_ms = 60'000;
  }

  std::unique_ptr<LazyRestore> Open(const std::string& boot = "boot-1",
                                    std::vector<Extent> extents = {{0, kSize}}) {
    LowerDevice destination;
    EXPECT_EQ(0, LowerDevice::Adopt(destination_.Duplicate(), "destination", false, &destination));
    auto restore = std::make_unique<LazyRestore>(
        image_.Duplicate(), std::make_unique<ChecksumFile>(checksum_bytes_.Duplicate()),
        std::move(destination), std::make_unique<RestoreState>(state_.Duplicate(), kBlocks), options_,
        [this](const LazyRestoreNotice& notice) {
          std::lock_guard<std::mutex> lock(mutex_);
          notices_.push_back(notice);
          told_.notify_all();
        });
    EXPECT_EQ(0, restore->Open(extents, boot));
    return restore;
  }

  void WaitUntilSettled() {
    std::unique_lock<std::mutex> lock(mutex_);
    told_.wait(lock, [this] {
      for (const auto& notice : notices_) {
        EXPECT_NE(notice.kind, LazyRestoreNotice::kFailed);
        if (notice.kind == LazyRestoreNotice::kSettled) return true;
      }
      return false;
    });
  }

  static std::vector<uint8_t> ReadOf(LazyRestore* restore, uint64_t offset, uint64_t length) {
    std::vector<uint8_t> bytes(length);
    EXPECT_EQ(0, restore->Read(offset, bytes.data(), length)) << offset << " " << length;
    return bytes;
  }
  std::vector<uint8_t> Destination() {
    std::vector<uint8_t> bytes(kSize);
    EXPECT_EQ(0, ReadAll(destination_.fd(), bytes.data(), kSize, 0));
    return bytes;
  }
  // Runs `work` in a process that ends like one that was killed.
  template <typename Work>
  void InDyingProcess(Work work) {
    const pid_t child = fork();
    if (child == 0) {
      work();
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(child, waitpid(child, &status, 0));
    ASSERT_EQ(status, 0);
  }

  TestFile image_{kSize}, checksum_bytes_{0}, destination_{kSize}, state_{RestoreState::FileBytes(kBlocks)};
  ChecksumFile checksums_{checksum_bytes_.Duplicate()};
  std::vector<uint8_t> image_bytes_;
  LazyRestoreOptions options_;
  std::mutex mutex_;
  std::condition_variable told_;
  std::vector<LazyRestoreNotice> notices_;
};

TEST_F(LazyRestoreTest, ReadsAsTheBackupBeforeAnythingWasBrought) {
  auto restore = Open();
  std::mt19937 random(3);
  for (int i = 0; i < 500; ++i) {
    const uint64_t length = 1 + random() % 30'000, offset = random() % (kSize - length + 1);
    const auto bytes = ReadOf(restore.get(), offset, length);
    ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), image_bytes_.begin() + offset)) << offset;
  }
  EXPECT_EQ(ReadOf(restore.get(), 0, kSize), image_bytes_);
  EXPECT_EQ(restore->Stats().here_blocks, kBlocks);
  EXPECT_EQ(restore->Stats().demand_blocks, kBlocks);
}

TEST_F(LazyRestoreTest, BringsWhatAWriteLeavesOfItsBlocksAndNothingElse) {
  auto restore = Open();
  auto model = image_bytes_;
  const std::vector<uint8_t> data(3 * kBlock, 0x55);
  // the end of one block, two whole ones, the beginning of a fourth
  ASSERT_EQ(0, restore->Write(10 * kBlock + 4000, data.data(), data.size(), false));
  std::copy(data.begin(), data.end(), model.begin() + 10 * kBlock + 4000);
  EXPECT_EQ(restore->Stats().demand_blocks, 2u);
  EXPECT_EQ(restore->Stats().written_blocks, 2u);
  ASSERT_EQ(0, restore->WriteZeroes(20 * kBlock + 1, 2 * kBlock, true));
  std::fill_n(model.begin() + 20 * kBlock + 1, 2 * kBlock, 0);
  // the short last block is a whole one
  ASSERT_EQ(0, restore->Write((kBlocks - 1) * kBlock, data.data(), 777, true));
  std::fill_n(model.begin() + (kBlocks - 1) * kBlock, 777, 0x55);
  EXPECT_EQ(restore->Stats().demand_blocks, 4u);
  EXPECT_EQ(Destination()[9 * kBlock], kJunk) << "nobody asked for it";
  EXPECT_EQ(ReadOf(restore.get(), 0, kSize), model);
}

TEST_F(LazyRestoreTest, BringsTheRestInTheBackgroundAndKeepsWhatWasWritten) {
  options_.threads = 2;
  auto restore = Open();
  auto model = image_bytes_;
  for (uint64_t block = 0; block < kBlocks; block += 50) {
    const std::vector<uint8_t> data(100, static_cast<uint8_t>(block));
    ASSERT_EQ(0, restore->Write(block * kBlock + 5, data.data(), data.size(), false));
    std::copy(data.begin(), data.end(), model.begin() + block * kBlock + 5);
  }
  WaitUntilSettled();
  EXPECT_EQ(restore->Stats().here_blocks, kBlocks);
  EXPECT_EQ(restore->Close(), 0);
  EXPECT_EQ(Destination(), model);
}

TEST_F(LazyRestoreTest, LeavesWhatIsNotListedAsItIs) {
  options_.threads = 1;
  auto restore = Open("boot-1", {{2 * kBlock, 3 * kBlock}, {100 * kBlock, kSize - 100 * kBlock}});
  EXPECT_EQ(ReadOf(restore.get(), 5 * kBlock, 10), std::vector<uint8_t>(10, kJunk));
  WaitUntilSettled();
  EXPECT_EQ(restore->Stats().total_blocks, kBlocks - 97);
  auto model = image_bytes_;
  std::fill_n(model.begin(), 2 * kBlock, kJunk);
  std::fill_n(model.begin() + 5 * kBlock, 95 * kBlock, kJunk);
  EXPECT_EQ(Destination(), model);
}

TEST_F(LazyRestoreTest, GivesAnErrorForADamagedBlockUntilItIsWrittenWhole) {
  ASSERT_EQ(1, pwrite(image_.fd(), "x", 1, 12 * kBlock + 17));
  ASSERT_EQ(1, pwrite(image_.fd(), "x", 1, 400 * kBlock));  // was a hole
  options_.threads = 2;
  auto restore = Open();
  WaitUntilSettled();
  EXPECT_EQ(restore->Stats().bad_blocks, 2u);
  EXPECT_EQ(restore->Stats().here_blocks, kBlocks - 2);
  ASSERT_EQ(notices_.size(), 3u);
  std::vector<uint8_t> data(3 * kBlock, 1);
  EXPECT_EQ(restore->Read(11 * kBlock, data.data(), 3 * kBlock), -EIO);
  EXPECT_EQ(restore->Write(12 * kBlock + 1, data.data(), 10, false), -EIO)
      << "a part of a block that is not known";
  EXPECT_EQ(ReadOf(restore.get(), 11 * kBlock, kBlock),
            std::vector<uint8_t>(image_bytes_.begin() + 11 * kBlock, image_bytes_.begin() + 12 * kBlock));
  EXPECT_EQ(Destination()[12 * kBlock], kJunk) << "a damaged block was restored";
  data.assign(kBlock, 1);
  EXPECT_EQ(restore->Write(12 * kBlock, data.data(), kBlock, false), 0);
  EXPECT_EQ(ReadOf(restore.get(), 12 * kBlock, 1)[0], 1);
  EXPECT_EQ(restore->Stats().bad_blocks, 1u);
}

TEST_F(LazyRestoreTest, ADiscardNeverShowsWhatWasThereBefore) {
  auto restore = Open();
  ASSERT_EQ(0, restore->Read(30 * kBlock, std::vector<uint8_t>(kBlock).data(), kBlock));
  ASSERT_EQ(0, restore->Discard(29 * kBlock + 100, 4 * kBlock));
  auto model = image_bytes_;
  std::fill_n(model.begin() + 30 * kBlock, 3 * kBlock, 0);  // whole ones, there or not
  EXPECT_EQ(ReadOf(restore.get(), 0, kSize), model);
}

TEST_F(LazyRestoreTest, GoesOnAfterAKillWithEveryAcknowledgedWrite) {
  const std::vector<uint8_t> data(2 * kBlock, 0x77);
  InDyingProcess([&] {
    auto restore = Open();
    ASSERT_EQ(0, restore->Write(7 * kBlock, data.data(), data.size(), false));
    ASSERT_EQ(0, restore->Write(50 * kBlock + 5, data.data(), 10, false));
    restore.release();
  });
  auto model = image_bytes_;
  std::copy(data.begin(), data.end(), model.begin() + 7 * kBlock);
  std::fill_n(model.begin() + 50 * kBlock + 5, 10, 0x77);
  options_.threads = 2;
  auto restore = Open();
  WaitUntilSettled();
  EXPECT_EQ(Destination(), model);
  EXPECT_EQ(restore->Stats().written_blocks, 0u);
}

TEST_F(LazyRestoreTest, BelievesAnotherBootOnlyWhatWasFlushed) {
  const std::vector<uint8_t> data(kBlock, 0x77);
  InDyingProcess([&] {
    auto restore = Open();
    ASSERT_EQ(0, restore->Write(7 * kBlock, data.data(), kBlock, false));
    ASSERT_EQ(0, restore->Flush());
    ASSERT_EQ(0, restore->Write(8 * kBlock, data.data(), kBlock, false));
    ASSERT_EQ(0, restore->Write(200 * kBlock, data.data(), 9, true));  // brings, writes, durable: a sync
    ASSERT_EQ(0, restore->Write(9 * kBlock, data.data(), kBlock, false));
    restore.release();
  });
  auto restore = Open("boot-2");
  EXPECT_EQ(restore->Stats().here_blocks, 3u);
  auto model = image_bytes_;
  std::copy(data.begin(), data.end(), model.begin() + 7 * kBlock);
  std::copy(data.begin(), data.end(), model.begin() + 8 * kBlock);
  std::fill_n(model.begin() + 200 * kBlock, 9, 0x77);
  EXPECT_EQ(ReadOf(restore.get(), 0, kSize), model) << "block 9 was never durable: the backup's is as good";
}

TEST_F(LazyRestoreTest, WhatTheFirstBootDidNotFlushIsNotBelievedLaterEither) {
  const std::vector<uint8_t> data(kBlock, 0x77);
  InDyingProcess([&] {
    auto restore = Open("boot-1");
    ASSERT_EQ(0, restore->Write(9 * kBlock, data.data(), kBlock, false));
    restore.release();
  });
  InDyingProcess([&] { Open("boot-2").release(); });
  EXPECT_EQ(Open("boot-2")->Stats().here_blocks, 0u);
}

TEST_F(LazyRestoreTest, ShuttingDownEndsEveryCall) {
  auto restore = Open();
  restore->Shutdown();
  uint8_t byte = 0;
  EXPECT_EQ(restore->Read(0, &byte, 1), -ESHUTDOWN);
  EXPECT_EQ(restore->Write(0, &byte, 1, false), -ESHUTDOWN);
  EXPECT_EQ(restore->WriteZeroes(0, 1, false), -ESHUTDOWN);
  EXPECT_EQ(restore->Discard(0, 1), -ESHUTDOWN);
  EXPECT_EQ(restore->Flush(), -ESHUTDOWN);
  EXPECT_EQ(restore->Close(), 0);
  EXPECT_EQ(restore->Close(), 0);
  EXPECT_EQ(restore->Write(0, &byte, 1, true), -ESHUTDOWN);
}

TEST_F(LazyRestoreTest, AFailedDurableWriteLeavesNothingToBeBelievedThatWasNotDurable) {
  const std::vector<uint8_t> data(kBlock, 0x77);
  {
    auto restore = Open();
    ASSERT_EQ(0, restore->Write(700 * kBlock, data.data(), kBlock, true));  // durable from here on
    ASSERT_EQ(0, restore->Write(7 * kBlock, data.data(), kBlock, false));
    // a destination that fails: the file may not be written as far behind
    const auto before = signal(SIGXFSZ, SIG_IGN);
    rlimit limit{};
    ASSERT_EQ(0, getrlimit(RLIMIT_FSIZE, &limit));
    const rlimit low{600 * kBlock, limit.rlim_max};
    ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &low));
    EXPECT_EQ(-EFBIG, restore->Write(700 * kBlock, data.data(), kBlock, true));
    ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
    signal(SIGXFSZ, before);
    EXPECT_EQ(-EIO, restore->Flush()) << "nobody knows what of block 7 is on the disk";
  }
  EXPECT_EQ(Open()->Stats().here_blocks, 1u);
}

// One change of the model, done to the restore, too.
void Change(LazyRestore* restore, std::mt19937* random, uint64_t offset, uint64_t length, uint8_t* model) {
  const uint8_t byte = static_cast<uint8_t>(1 + (*random)() % 255);
  const bool fua = (*random)() % 64 == 0;
  const unsigned kind = (*random)() % 32;
  switch (kind < 8 ? kind : kind % 4 + 8) {
    case 0:
    case 1:
      ASSERT_EQ(0, restore->WriteZeroes(offset, length, fua));
      memset(model + offset, 0, length);
      break;
    case 2:
      ASSERT_EQ(0, restore->Flush());
      break;
    case 3:
    case 4:
    case 5:
    case 6: {
      std::vector<uint8_t> bytes(length);
      ASSERT_EQ(0, restore->Read(offset, bytes.data(), length));
      ASSERT_EQ(0, memcmp(bytes.data(), model + offset, length)) << offset << " " << length;
      break;
    }
    default:
      const std::vector<uint8_t> data(length, byte);
      ASSERT_EQ(0, restore->Write(offset, data.data(), length, fua));
      memset(model + offset, byte, length);
  }
}

TEST_F(LazyRestoreTest, KeepsAModelWhileManyThreadsAndTheBackgroundWork) {
  constexpr uint64_t kStripe = 1500;  // so that several threads change one block
  constexpr int kThreads = 4;
  options_.threads = 2;
  options_.sync_ms = 1;
  auto restore = Open();
  auto model = image_bytes_;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 400; ++i) {
        const uint64_t stripe = random() % (kSize / kStripe / kThreads) * kThreads + t;
        const uint64_t from = random() % kStripe, length = 1 + random() % (kStripe - from);
        Change(restore.get(), &random, stripe * kStripe + from, length, model.data());
        if (testing::Test::HasFatalFailure()) return;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  WaitUntilSettled();
  EXPECT_EQ(ReadOf(restore.get(), 0, kSize), model);
  EXPECT_EQ(restore->Close(), 0);
  EXPECT_EQ(Destination(), model);
}

// A reader wants a row of blocks just while a writer writes the middle of it whole.
TEST_F(LazyRestoreTest, AWholeWriteSurvivesWhoeverBringsItsBlocksAtThatMoment) {
  constexpr uint64_t kRow = 45, kFrom = 8, kCount = 32;
  const std::vector<uint8_t> data(kCount * kBlock, 0x99);
  for (uint64_t round = 0; round < 15; ++round) {
    ASSERT_EQ(0, WriteAll(state_.fd(), std::vector<uint8_t>(RestoreState::FileBytes(kBlocks)).data(),
                          RestoreState::FileBytes(kBlocks), 0));
    auto restore = Open();
    auto model = image_bytes_;
    std::atomic<uint64_t> met{0};
    // both of them at one time, one of them then a little later
    const auto meet = [&met](uint64_t row, uint64_t late) {
      met++;
      while (met < 2 * (row + 1)) std::this_thread::yield();
      for (uint64_t i = 0; i < late; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
    };
    std::thread reader([&] {
      std::vector<uint8_t> bytes((kRow - 1) * kBlock);
      for (uint64_t row = 0; row < kBlocks / kRow; ++row) {
        meet(row, row * 3000);
        EXPECT_EQ(0, restore->Read(row * kRow * kBlock, bytes.data(), bytes.size()));
      }
    });
    for (uint64_t row = 0; row < kBlocks / kRow; ++row) {
      meet(row, round * 1000);
      const uint64_t offset = (row * kRow + kFrom) * kBlock;
      EXPECT_EQ(0, restore->Write(offset, data.data(), data.size(), false));
      std::copy(data.begin(), data.end(), model.begin() + offset);
    }
    reader.join();
    ASSERT_EQ(ReadOf(restore.get(), 0, kSize), model);
  }
}

// Processes that use the restore, killed at whatever moment, one after another.
TEST_F(LazyRestoreTest, KeepsAModelThroughKills) {
#ifdef SNAPBAK_TSAN
  constexpr int kRounds = 4;
#else
  constexpr int kRounds = 24;
#endif
  struct Shared {
    std::atomic<uint64_t> offset, length;  // of the change that is under way, length 0: none
    uint8_t model[kSize];
  };
  auto* shared = static_cast<Shared*>(
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  memcpy(shared->model, image_bytes_.data(), kSize);
  std::mt19937 kills(99);
  options_.sync_ms = 3;
  for (int round = 0; round < kRounds; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      options_.threads = round % 3;
      auto restore = Open();
      std::mt19937 random(round);
      for (;;) {
        const uint64_t length = 1 + random() % (random() % 4 == 0 ? 40'000 : 5000);
        const uint64_t offset = random() % (kSize - length + 1);
        shared->offset = offset;
        shared->length = length;
        Change(restore.get(), &random, offset, length, shared->model);
        if (testing::Test::HasFailure()) _exit(1);
        shared->length = 0;
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500 + kills() % 15'000));
    ASSERT_EQ(0, kill(child, SIGKILL));
    int status = 0;
    ASSERT_EQ(child, waitpid(child, &status, 0));
    ASSERT_TRUE(WIFSIGNALED(status)) << "round " << round << ": the model was not kept";
    // What was under way may be there or not, byte by byte: the model takes what is.
    const uint64_t offset = shared->offset, length = shared->length;
    options_.threads = 0;
    auto restore = Open();
    const auto now = ReadOf(restore.get(), 0, kSize);
    const bool same = memcmp(now.data(), shared->model, kSize) == 0;
    for (uint64_t i = same ? kSize : 0; i < kSize; ++i) {
      if (now[i] == shared->model[i]) continue;
      ASSERT_TRUE(i >= offset && i < offset + length) << "round " << round << ", byte " << i;
      shared->model[i] = now[i];
    }
    shared->length = 0;
    if (round % 4 == 3) continue;
    // most rounds begin anew, or soon nothing would be missing
    restore.reset();
    const std::vector<uint8_t> nothing(RestoreState::FileBytes(kBlocks));
    ASSERT_EQ(0, WriteAll(state_.fd(), nothing.data(), nothing.size(), 0));
    const std::vector<uint8_t> junk(kSize, kJunk);
    ASSERT_EQ(0, WriteAll(destination_.fd(), junk.data(), junk.size(), 0));
    memcpy(shared->model, image_bytes_.data(), kSize);
  }
  munmap(shared, sizeof(Shared));
}

TEST(RestoreState, KnowsToBeDurableOnlyWhatWasThereWhenTheFlushBegan) {
  TestFile file(RestoreState::FileBytes(1000));
  uint64_t fresh = 0;
  {
    RestoreState state(file.Duplicate(), 1000);
    BlockBits here(1000);
    ASSERT_EQ(0, state.Load("a", &here));
    ASSERT_EQ(0, state.Add(5, 10, &here, &fresh));
    EXPECT_EQ(fresh, 10u);
    EXPECT_FALSE(state.IsDurable(5, 1));
    ASSERT_EQ(0, state.Sync([&] { return state.Add(20, 1, &here, &fresh); }));
    EXPECT_TRUE(state.IsDurable(5, 10));
    EXPECT_FALSE(state.IsDurable(5, 11));
    EXPECT_FALSE(state.IsDurable(20, 1));
    EXPECT_TRUE(state.dirty());
  }
  RestoreState state(file.Duplicate(), 1000);
  BlockBits here(1000);
  ASSERT_EQ(0, state.Load("b", &here));
  EXPECT_TRUE(here.Get(14));
  EXPECT_FALSE(here.Get(15));
  EXPECT_FALSE(here.Get(20));
}

// The kernel tells of a failed writeback once: whoever was told it instead of the flush has to tell.
TEST(RestoreState, TakesAnErrorOfADurableWriteForOneOfTheFlushThatRunsMeanwhile) {
  TestFile file(RestoreState::FileBytes(1000));
  uint64_t fresh = 0;
  RestoreState state(file.Duplicate(), 1000);
  BlockBits here(1000);
  ASSERT_EQ(0, state.Load("a", &here));
  ASSERT_EQ(0, state.Add(1, 1, &here, &fresh));
  std::promise<void> begun, flushed;
  std::thread writer([&] {
    EXPECT_EQ(-EIO, state.WriteDurably([&] {
      begun.set_value();
      flushed.get_future().wait();
      return -EIO;
    }));
  });
  begun.get_future().wait();
  EXPECT_EQ(-EIO, state.Sync([&] {
    flushed.set_value();
    return 0;
  }));
  writer.join();
  EXPECT_FALSE(state.IsDurable(1, 1));
  EXPECT_EQ(-EIO, state.Sync([] { return 0; }));
  RestoreState next(file.Duplicate(), 1000);
  BlockBits found(1000);
  ASSERT_EQ(0, next.Load("a", &found));
  EXPECT_FALSE(found.Get(1));
}

// Whoever wrote the bits may have been killed just before its fdatasync.
TEST(RestoreState, TakesNoBitOfAFileForDurableBeforeItHasMadeItSo) {
  TestFile file(RestoreState::FileBytes(1000));
  uint64_t fresh = 0;
  {
    RestoreState state(file.Duplicate(), 1000);
    BlockBits here(1000);
    ASSERT_EQ(0, state.Load("a", &here));
    ASSERT_EQ(0, state.Add(60, 10, &here, &fresh));
    ASSERT_EQ(0, state.Sync([] { return 0; }));
  }
  for (const char* boot : {"a", "b"}) {
    RestoreState state(file.Duplicate(), 1000);
    BlockBits here(1000);
    ASSERT_EQ(0, state.Load(boot, &here));
    EXPECT_EQ(10u, here.RunLength(60, 20));
    EXPECT_FALSE(state.IsDurable(60, 10)) << boot;
    EXPECT_TRUE(state.dirty()) << boot;
    // as if they had never been written: they are written again
    const std::vector<uint8_t> zeroes(4096);
    ASSERT_EQ(0, WriteAll(file.fd(), zeroes.data(), zeroes.size(), 2 * RestoreState::kTextBytes));
    ASSERT_EQ(0, state.Sync([] { return 0; }));
    EXPECT_TRUE(state.IsDurable(60, 10)) << boot;
    EXPECT_FALSE(state.IsDurable(59, 1)) << boot;
  }
  RestoreState state(file.Duplicate(), 1000);
  BlockBits here(1000);
  ASSERT_EQ(0, state.Load("c", &here));
  EXPECT_EQ(10u, here.RunLength(60, 20));
}

TEST(RestoreState, TakesBackWhatMayBeLostWhenAFlushFails) {
  TestFile file(RestoreState::FileBytes(1000));
  uint64_t fresh = 0;
  RestoreState state(file.Duplicate(), 1000);
  BlockBits here(1000);
  ASSERT_EQ(0, state.Load("a", &here));
  ASSERT_EQ(0, state.Add(1, 1, &here, &fresh));
  ASSERT_EQ(0, state.Sync([] { return 0; }));
  ASSERT_EQ(0, state.Add(2, 1, &here, &fresh));
  EXPECT_EQ(-ENOSPC, state.Sync([] { return -ENOSPC; }));
  ASSERT_EQ(0, state.Add(3, 1, &here, &fresh));
  EXPECT_EQ(-EIO, state.Sync([] { return 0; })) << "what was lost stays lost";
  RestoreState next(file.Duplicate(), 1000);
  BlockBits found(1000);
  ASSERT_EQ(0, next.Load("a", &found));
  EXPECT_TRUE(found.Get(1));
  EXPECT_FALSE(found.Get(2));
  EXPECT_FALSE(found.Get(3));
}

TEST(BlockBits, FindsRunsAndGaps) {
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    const uint64_t size = 1 + random() % 300;
    BlockBits bits(size);
    std::vector<bool> model(size);
    for (int i = 0; i < 6; ++i) {
      const uint64_t first = random() % size, count = 1 + random() % (size - first);
      if (random() % 2 == 0 && count > 1) continue;
      uint64_t fresh = 0;
      for (uint64_t b = first; b < first + count; ++b) fresh += !model[b], model[b] = true;
      ASSERT_EQ(bits.Set(first, count), fresh);
    }
    for (uint64_t b = 0; b < size; ++b) {
      ASSERT_EQ(bits.Get(b), model[b]);
      const uint64_t max = 1 + random() % 100;
      uint64_t run = 1;
      while (run < max && b + run < size && model[b + run] == model[b]) ++run;
      ASSERT_EQ(bits.RunLength(b, max), run);
      uint64_t clear = b;
      while (clear < size && model[clear]) ++clear;
      ASSERT_EQ(bits.NextClear(b), clear);
    }
  }
}

}  // namespace
}  // namespace snapbak
