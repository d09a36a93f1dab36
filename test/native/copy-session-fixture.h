// SPDX-License-Identifier: MIT
// A copy session over a small origin with a driver that the test plays.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <thread>

#include "copy-rig.h"
#include "native/copy/crc32c.h"

namespace snapbak {

constexpr uint32_t kShift = 12;
constexpr uint64_t kBlock = 1u << kShift;
constexpr uint64_t kBlocks = 200;
constexpr uint64_t kSize = (kBlocks - 1) * kBlock + 1234;  // a short last block

class CopySessionTest : public testing::Test {
 protected:
  explicit CopySessionTest(uint32_t slots = 8) : driver_(kSize, kShift, slots) {
    options_.copy_threads = 2;
    options_.read_bytes = 4 * kBlock;
    options_.target_retry_ms = 1;
  }
  void TearDown() override {
    target_.Open();
    if (session_ != nullptr) session_->Stop();
    EXPECT_LE(log_.Count(NoticeKind::kComplete), 1u);
  }

  void Make(const std::vector<Extent>& listed = {{0, kSize}}) {
    session_ = std::make_unique<CopySession>(&driver_, &driver_.library, LowerView{origin_.Duplicate()},
                                             &target_, tiers_.get(), &checksums_, options_, log_.Sink());
    ASSERT_EQ(0, session_->Prepare(listed));
  }
  void Start() {
    snapbak_start start{};
    ASSERT_EQ(0, session_->Start(&start));
  }
  void MakeAndStart(const std::vector<Extent>& listed = {{0, kSize}}) {
    Make(listed);
    Start();
  }
  void UseTier2(uint64_t places) { UseTiers({{&tier2_file_, places}}); }
  // Second tiers in order: a file, and how many blocks of it.
  void UseTiers(const std::vector<std::pair<TestFile*, uint64_t>>& files) {
    std::vector<std::unique_ptr<Tier2>> tiers;
    for (const auto& [file, places] : files) tiers.push_back(MakeTier2(file->Duplicate(), places));
    tiers_ = std::make_unique<Tier2Set>(std::move(tiers));
  }
  static std::unique_ptr<Tier2> MakeTier2(UniqueFd fd, uint64_t places) {
    return std::make_unique<Tier2>(std::move(fd), false, std::vector<Extent>{{0, places * kBlock}}, kBlock);
  }
  static uint64_t Bytes(uint64_t block) { return std::min(kBlock, kSize - block * kBlock); }
  const uint8_t* Origin(uint64_t block) const { return &bytes_[block * kBlock]; }
  void ExpectCopied(uint64_t block, bool copied = true) {
    std::vector<uint8_t> want(Bytes(block), MemoryTarget::kUntouched);
    if (copied) want.assign(Origin(block), Origin(block) + Bytes(block));
    const std::vector<uint8_t> got(&target_.bytes[block * kBlock],
                                   &target_.bytes[block * kBlock] + Bytes(block));
    ASSERT_EQ(want, got) << "block " << block;
    uint32_t sum = 0;
    const int error = checksums_.Get(block, &sum, 1);
    ASSERT_TRUE(!copied || error == 0) << error;
    ASSERT_EQ(copied ? Crc32c(0, want.data(), want.size()) : 0, sum) << "block " << block;
  }
  void ExpectAllCopied() {
    for (uint64_t block = 0; block < kBlocks; block++) ExpectCopied(block);
  }
  // Waits for what another thread is about to count; the deadline is only for a broken build.
  void Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 30000 && !condition(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(condition());
  }

  std::vector<uint8_t> bytes_ = [] {
    auto bytes = RandomBytes(kSize, 1);
    std::fill_n(&bytes[7 * kBlock], 3 * kBlock, 0);
    return bytes;
  }();
  TestFile origin_{bytes_};
  TestFile checksum_bytes_{0};
  TestFile tier2_file_{64 * kBlock};
  ChecksumFile checksums_{checksum_bytes_.Duplicate()};
  MemoryTarget target_{kSize};
  FakeDriver driver_;
  CopyOptions options_;
  NoticeLog log_;
  std::unique_ptr<Tier2Set> tiers_;
  std::unique_ptr<CopySession> session_;
};

}  // namespace snapbak
