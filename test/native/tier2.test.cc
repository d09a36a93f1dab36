// SPDX-License-Identifier: MIT
// Places of the second tier.
#include "native/copy/tier2.h"

#include <fcntl.h>

#include <set>
#include <thread>

#include "copy-rig.h"
#include "native/copy/aligned_buffer.h"

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 8192;

TEST(Tier2, GivesBackWhatWasPut) {
  TestFile file(4 * kBlock);
  Tier2 tier2(file.Duplicate(), false, 4 * kBlock, kBlock);
  uint32_t places[4];
  for (uint32_t i = 0; i < 4; i++) {
    ASSERT_EQ(0, tier2.Put(RandomBytes(kBlock, i).data(), &places[i]));
  }
  EXPECT_EQ(4u, tier2.used());
  for (uint32_t i = 0; i < 4; i++) {
    std::vector<uint8_t> bytes(kBlock);
    ASSERT_EQ(0, tier2.Get(places[i], bytes.data()));
    EXPECT_EQ(RandomBytes(kBlock, i), bytes);
  }
}

TEST(Tier2, CountsWholePlacesOnly) {
  TestFile file(0);
  EXPECT_EQ(2u, Tier2(file.Duplicate(), false, 3 * kBlock - 1, kBlock).total());
  EXPECT_EQ(0u, Tier2(file.Duplicate(), false, kBlock - 1, kBlock).total());
}

TEST(Tier2, IsFullWhenAllPlacesAreTakenAndReusesFreedOnes) {
  TestFile file(2 * kBlock);
  Tier2 tier2(file.Duplicate(), false, 2 * kBlock, kBlock);
  const auto bytes = RandomBytes(kBlock, 1);
  uint32_t first, second, third;
  ASSERT_EQ(0, tier2.Put(bytes.data(), &first));
  ASSERT_EQ(0, tier2.Put(bytes.data(), &second));
  EXPECT_EQ(-ENOSPC, tier2.Put(bytes.data(), &third));
  tier2.Free(first);
  EXPECT_EQ(1u, tier2.used());
  ASSERT_EQ(0, tier2.Put(bytes.data(), &third));
  EXPECT_EQ(first, third);
}

TEST(Tier2, KeepsThePlaceFreeWhenTheDeviceFails) {
  TestFile file(2 * kBlock);
  UniqueFd read_only(open(("/proc/self/fd/" + std::to_string(file.fd())).c_str(), O_RDONLY));
  Tier2 tier2(std::move(read_only), false, 2 * kBlock, kBlock);
  uint32_t place;
  EXPECT_EQ(-EBADF, tier2.Put(RandomBytes(kBlock, 1).data(), &place));
  EXPECT_EQ(0u, tier2.used());
}

TEST(Tier2, CallsAMediumThatIsFullAFailureAndNotAFullContainer) {
  UniqueFd full(open("/dev/full", O_RDWR));
  ASSERT_TRUE(full.valid());
  Tier2 tier2(std::move(full), false, 2 * kBlock, kBlock);
  uint32_t place;
  EXPECT_EQ(-EIO, tier2.Put(RandomBytes(kBlock, 1).data(), &place));
}

TEST(Tier2, ReportsAPlaceThatTheFileNoLongerHolds) {
  TestFile file(kBlock);
  Tier2 tier2(file.Duplicate(), false, kBlock, kBlock);
  uint32_t place;
  std::vector<uint8_t> bytes(kBlock);
  ASSERT_EQ(0, tier2.Put(bytes.data(), &place));
  ASSERT_EQ(0, ftruncate(file.fd(), 100));
  EXPECT_EQ(-EIO, tier2.Get(place, bytes.data()));
}

TEST(Tier2, GivesNoPlaceToTwoThreads) {
  constexpr uint32_t kPlaces = 64;
  TestFile file(kPlaces * kBlock);
  Tier2 tier2(file.Duplicate(), false, kPlaces * kBlock, kBlock);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      const auto bytes = RandomBytes(kBlock, t);
      std::vector<uint8_t> back(kBlock);
      for (int round = 0; round < 200; round++) {
        uint32_t places[8];
        for (uint32_t& place : places) ASSERT_EQ(0, tier2.Put(bytes.data(), &place));
        for (uint32_t place : places) {
          ASSERT_EQ(0, tier2.Get(place, back.data()));
          ASSERT_EQ(bytes, back);
          tier2.Free(place);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0u, tier2.used());
}

}  // namespace
}  // namespace snapbak
