// SPDX-License-Identifier: MIT
// Verify and restore: one pass over an image and its checksums.
#include <algorithm>
#include <thread>

#include "copy-rig.h"
#include "native/copy/crc32c.h"
#include "native/copy/file_target.h"
#include "native/copy/image_replay.h"

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 65536;
constexpr uint64_t kBlocks = 300;                         // more than one piece of work
constexpr uint64_t kSize = (kBlocks - 1) * kBlock + 777;  // a short last block

// Data, written zeroes, and true holes, with right checksums.
class ImageReplayTest : public testing::Test {
 protected:
  void SetUp() override {
    image_bytes_.assign(kSize, 0);
    for (uint64_t block = 0; block < kBlocks; block++) {
      if (block % 7 == 3 || (block > 100 && block < 180)) continue;
      const uint64_t length = Bytes(block);
      const auto bytes = block % 11 == 5 ? std::vector<uint8_t>(length, 0) : RandomBytes(length, block);
      std::copy(bytes.begin(), bytes.end(), image_bytes_.begin() + block * kBlock);
      ASSERT_EQ(static_cast<ssize_t>(length), pwrite(image_.fd(), bytes.data(), length, block * kBlock));
    }
    for (uint64_t block = 0; block < kBlocks; block++) {
      const uint32_t sum = Crc32c(0, &image_bytes_[block * kBlock], Bytes(block));
      ASSERT_EQ(0, checksums_.Put(block, &sum, 1));
    }
    options_.image_size = kSize;
    options_.block_size = kBlock;
  }
  static uint64_t Bytes(uint64_t block) { return std::min<uint64_t>(kBlock, kSize - block * kBlock); }
  std::unique_ptr<ImageReplay> Make(Target* target) {
    return std::make_unique<ImageReplay>(image_.Duplicate(), &checksums_, target, options_,
                                         [this](uint64_t block) { bad_.push_back(block); });
  }

  TestFile image_{kSize};
  TestFile checksum_bytes_{0};
  ChecksumFile checksums_{checksum_bytes_.Duplicate()};
  std::vector<uint8_t> image_bytes_;
  ReplayOptions options_;
  std::vector<uint64_t> bad_;
};

TEST_F(ImageReplayTest, FindsNothingWrongWithAGoodImage) {
  auto replay = Make(nullptr);
  EXPECT_EQ(0, replay->Run({{0, kSize}}, {}));
  EXPECT_TRUE(bad_.empty());
  EXPECT_EQ(kSize, replay->Stats().done_bytes);
  uint64_t zeroes = 0;
  for (uint64_t b = 0; b < kBlocks; b++) {
    const auto* at = &image_bytes_[b * kBlock];
    if (std::all_of(at, at + Bytes(b), [](uint8_t x) { return x == 0; })) zeroes += Bytes(b);
  }
  EXPECT_EQ(zeroes, replay->Stats().zero_bytes);
}

TEST_F(ImageReplayTest, NamesEveryDamagedBlockOnceWhetherDataOrHole) {
  ASSERT_EQ(1, pwrite(image_.fd(), "x", 1, 5 * kBlock + 17));  // data
  ASSERT_EQ(1, pwrite(image_.fd(), "x", 1, 120 * kBlock));     // was a hole
  const uint32_t wrong = 0;
  ASSERT_EQ(0, checksums_.Put(150, &wrong, 1));          // still a hole
  ASSERT_EQ(0, checksums_.Put(kBlocks - 1, &wrong, 1));  // the short one
  MemoryTarget target(kSize);
  auto replay = Make(&target);
  EXPECT_EQ(0, replay->Run({{0, kSize}, {kBlock, 10 * kBlock}}, {}));
  std::sort(bad_.begin(), bad_.end());
  EXPECT_EQ((std::vector<uint64_t>{5, 120, 150, kBlocks - 1}), bad_);
  EXPECT_EQ(4u, replay->Stats().bad_blocks);
  for (uint64_t block : bad_) {
    EXPECT_EQ(MemoryTarget::kUntouched, target.bytes[block * kBlock]) << "a damaged block was restored";
  }
}

TEST_F(ImageReplayTest, RestoresTheListedBlocksAndNoOther) {
  MemoryTarget target(kSize);
  auto replay = Make(&target);
  const std::vector<uint64_t> skip = {12, 105, 250};
  // an extent in the middle of blocks is widened to whole ones
  EXPECT_EQ(0, replay->Run({{10 * kBlock + 5, 2 * kBlock}, {100 * kBlock, kSize - 100 * kBlock}}, skip));
  for (uint64_t block = 0; block < kBlocks; block++) {
    const bool listed = (block >= 10 && block <= 12) || block >= 100;
    const bool skipped = std::binary_search(skip.begin(), skip.end(), block);
    const std::vector<uint8_t> got(&target.bytes[block * kBlock],
                                   &target.bytes[block * kBlock] + Bytes(block));
    const std::vector<uint8_t> want = listed && !skipped
                                          ? std::vector<uint8_t>(&image_bytes_[block * kBlock],
                                                                 &image_bytes_[block * kBlock] + Bytes(block))
                                          : std::vector<uint8_t>(Bytes(block), MemoryTarget::kUntouched);
    ASSERT_EQ(want, got) << "block " << block;
  }
}

TEST_F(ImageReplayTest, OverwritesOldDataWithZeroesInAFile) {
  TestFile restored(RandomBytes(kSize, 99));
  FileTarget target(restored.Duplicate(), false);
  EXPECT_EQ(0, Make(&target)->Run({{0, kSize}}, {}));
  EXPECT_EQ(image_bytes_, restored.Read(0, kSize));
}

TEST_F(ImageReplayTest, SkippedBlocksAreNotChecked) {
  ASSERT_EQ(1, pwrite(image_.fd(), "x", 1, 5 * kBlock));
  EXPECT_EQ(0, Make(nullptr)->Run({{0, kSize}}, {5}));
  EXPECT_TRUE(bad_.empty());
}

TEST_F(ImageReplayTest, SaysAtWhichEndItFailed) {
  MemoryTarget target(kSize);
  target.FailNext(1, -ENOSPC);
  auto to_target = Make(&target);
  EXPECT_EQ(-ENOSPC, to_target->Run({{0, kSize}}, {}));
  EXPECT_EQ(3, to_target->error_stage());

  ASSERT_EQ(0, ftruncate(checksum_bytes_.fd(), 4 * 200));
  auto from_checksums = Make(nullptr);
  EXPECT_EQ(-ENODATA, from_checksums->Run({{0, kSize}}, {}));
  EXPECT_EQ(2, from_checksums->error_stage());

  ASSERT_EQ(0, ftruncate(image_.fd(), kBlock));
  auto from_image = Make(nullptr);
  EXPECT_EQ(-ENODATA, from_image->Run({{0, 2 * kBlock}}, {}));
  EXPECT_EQ(1, from_image->error_stage());
}

TEST_F(ImageReplayTest, StopsWhenCancelled) {
  MemoryTarget target(kSize);
  auto replay = Make(&target);
  target.Shut();
  std::atomic<int> result{1};
  std::thread runner([&] { result = replay->Run({{0, kSize}}, {}); });
  target.AwaitInside(1);
  replay->Cancel();
  target.Open();
  runner.join();
  EXPECT_EQ(-ECANCELED, result);
  EXPECT_LT(replay->Stats().done_bytes, kSize);
}

TEST_F(ImageReplayTest, DoesNotNeedChecksumsWhenItDoesNotCheck) {
  options_.check = false;
  MemoryTarget target(kSize);
  ImageReplay replay(image_.Duplicate(), nullptr, &target, options_, nullptr);
  EXPECT_EQ(0, replay.Run({{0, kSize}}, {}));
  EXPECT_EQ(image_bytes_, target.bytes);
}

}  // namespace
}  // namespace snapbak
