// SPDX-License-Identifier: MIT
// Places of the second tier.
#include "native/copy/tier2.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <set>
#include <thread>

#include "copy-rig.h"
#include "native/copy/aligned_buffer.h"

namespace snapbak {
namespace {

constexpr uint32_t kBlock = 8192;

TEST(Tier2, GivesBackWhatWasPut) {
  TestFile file(4 * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, 4 * kBlock}}, kBlock);
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

TEST(Tier2, HoldsABitForEachPlaceThatThereEverWas) {
  TestFile file(0);
  Tier2 tier2(file.Duplicate(), false, {{0, 1000 * kBlock}}, kBlock);
  const uint64_t memory = tier2.memory_bytes();
  EXPECT_GE(memory, 1000u / 8);
  tier2.Resize(1, [](int) {});
  EXPECT_EQ(memory, tier2.memory_bytes());
  tier2.Resize(2000, [](int) {});
  EXPECT_GE(tier2.memory_bytes(), 2000u / 8);
}

TEST(Tier2, CountsWholePlacesOnly) {
  TestFile file(0);
  EXPECT_EQ(2u, Tier2(file.Duplicate(), false, {{0, 3 * kBlock - 1}}, kBlock).total());
  EXPECT_EQ(0u, Tier2(file.Duplicate(), false, {{0, kBlock - 1}}, kBlock).total());
}

TEST(Tier2, LiesInItsAreasAndNowhereElse) {
  // three places, then none, then one, behind one another in no order
  const std::vector<Extent> areas = {
      {5 * kBlock + 512, 3 * kBlock + 100}, {0, kBlock - 1}, {2 * kBlock, kBlock}, {20 * kBlock, 0}};
  const auto before = RandomBytes(24 * kBlock, 7);
  TestFile file(before);
  Tier2 tier2(file.Duplicate(), false, areas, kBlock);
  EXPECT_EQ(4u, tier2.total());
  uint32_t places[5];
  for (uint32_t i = 0; i < 4; i++) ASSERT_EQ(0, tier2.Put(RandomBytes(kBlock, i).data(), &places[i]));
  EXPECT_EQ(-ENOSPC, tier2.Put(before.data(), &places[4]));
  for (uint32_t i = 0; i < 4; i++) {
    std::vector<uint8_t> bytes(kBlock);
    ASSERT_EQ(0, tier2.Get(places[i], bytes.data()));
    EXPECT_EQ(RandomBytes(kBlock, i), bytes);
  }
  const uint64_t taken[4] = {5 * kBlock + 512, 6 * kBlock + 512, 7 * kBlock + 512, 2 * kBlock};
  auto want = before;
  for (uint32_t i = 0; i < 4; i++) {
    const auto bytes = RandomBytes(kBlock, i);
    std::copy(bytes.begin(), bytes.end(), want.begin() + static_cast<ptrdiff_t>(taken[i]));
  }
  EXPECT_EQ(want, file.Read(0, want.size()));
}

TEST(Tier2, IsFullWhenAllPlacesAreTakenAndReusesFreedOnes) {
  TestFile file(2 * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, 2 * kBlock}}, kBlock);
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
  Tier2 tier2(file.ReadOnly(), false, {{0, 2 * kBlock}}, kBlock);
  uint32_t place;
  EXPECT_EQ(-EBADF, tier2.Put(RandomBytes(kBlock, 1).data(), &place));
  EXPECT_EQ(0u, tier2.used());
}

TEST(Tier2, CallsAMediumThatIsFullAFailureAndNotAFullContainer) {
  UniqueFd full(open("/dev/full", O_RDWR));
  ASSERT_TRUE(full.valid());
  Tier2 tier2(std::move(full), false, {{0, 2 * kBlock}}, kBlock);
  uint32_t place;
  EXPECT_EQ(-EIO, tier2.Put(RandomBytes(kBlock, 1).data(), &place));
}

TEST(Tier2, ReportsAPlaceThatTheFileNoLongerHolds) {
  TestFile file(kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, kBlock}}, kBlock);
  uint32_t place;
  std::vector<uint8_t> bytes(kBlock);
  ASSERT_EQ(0, tier2.Put(bytes.data(), &place));
  ASSERT_EQ(0, ftruncate(file.fd(), 100));
  EXPECT_EQ(-EIO, tier2.Get(place, bytes.data()));
}

// --- a new end

// Notes how a resize ended, and that it ended once.
struct Ending {
  Tier2::Resized Note() {
    return [this](int how) {
      EXPECT_EQ(1, error) << "it ended twice";
      error = how;
    };
  }
  int error = 1;  // not yet
};

std::vector<uint32_t> Fill(Tier2* tier2, uint32_t count) {
  std::vector<uint32_t> places(count);
  for (uint32_t& place : places) EXPECT_EQ(0, tier2->Put(RandomBytes(kBlock, 1).data(), &place));
  return places;
}

TEST(Tier2, GrowsBeyondItsEnd) {
  TestFile file(0);
  Tier2 tier2(file.Duplicate(), false, {{512, 2 * kBlock}}, kBlock);
  Fill(&tier2, 2);
  Ending grown;
  tier2.Resize(130, grown.Note());
  EXPECT_EQ(0, grown.error);
  EXPECT_EQ(130u, tier2.total());
  const auto places = Fill(&tier2, 128);
  for (uint32_t i = 0; i < 128; i++) EXPECT_EQ(i + 2, places[i]);
  EXPECT_FALSE(tier2.HasRoom());
  EXPECT_EQ(RandomBytes(kBlock, 1), file.Read(512 + 129 * kBlock, kBlock));
}

TEST(Tier2, ShrinksAtOnceWhereNothingIsBeyondTheNewEnd) {
  TestFile file(100 * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, 100 * kBlock}}, kBlock);
  const auto places = Fill(&tier2, 3);
  Ending shrunk;
  tier2.Resize(3, shrunk.Note());
  EXPECT_EQ(0, shrunk.error);
  EXPECT_FALSE(tier2.HasRoom());
  tier2.Free(places[1]);
  EXPECT_EQ(std::vector<uint32_t>{1}, Fill(&tier2, 1));
}

TEST(Tier2, ShrinksWhenTheLastPlaceBeyondTheNewEndIsFree) {
  TestFile file(100 * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, 100 * kBlock}}, kBlock);
  Fill(&tier2, 100);
  Ending shrunk;
  tier2.Resize(70, shrunk.Note());
  EXPECT_TRUE(tier2.Leaving(70));
  EXPECT_FALSE(tier2.Leaving(69));
  EXPECT_EQ(70u, tier2.total());
  EXPECT_EQ(100u, tier2.used());
  EXPECT_FALSE(tier2.HasRoom());
  tier2.Free(5);  // before the end: of use to the next, of none to the resize
  EXPECT_EQ(std::vector<uint32_t>{5}, Fill(&tier2, 1));
  for (uint32_t place = 99; place > 70; place--) tier2.Free(place);
  EXPECT_EQ(1, shrunk.error);
  tier2.Free(70);
  EXPECT_EQ(0, shrunk.error);
  EXPECT_FALSE(tier2.HasRoom());
}

TEST(Tier2, TakesAShrinkBackWhereALaterResizeWantsMore) {
  TestFile file(100 * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, 100 * kBlock}}, kBlock);
  Fill(&tier2, 100);
  Ending shrunk, again;
  tier2.Resize(10, shrunk.Note());
  for (uint32_t place = 50; place < 60; place++) tier2.Free(place);
  tier2.Resize(55, again.Note());
  EXPECT_EQ(-ECANCELED, shrunk.error);
  EXPECT_EQ(1, again.error);
  EXPECT_EQ((std::vector<uint32_t>{50, 51, 52, 53, 54}), Fill(&tier2, 5));
  EXPECT_FALSE(tier2.HasRoom());
  for (uint32_t place = 60; place < 100; place++) tier2.Free(place);
  EXPECT_EQ(0, again.error);
}

TEST(Tier2, RefusesToBeResizedWhereItCannotBe) {
  TestFile file(10 * kBlock);
  Tier2 pieces(file.Duplicate(), false, {{0, kBlock}, {2 * kBlock, kBlock}}, kBlock);
  Ending in_pieces, lost, closed;
  pieces.Resize(1, in_pieces.Note());
  EXPECT_EQ(-EOPNOTSUPP, in_pieces.error);
  EXPECT_EQ(2u, pieces.total());
  Tier2 given_up(file.Duplicate(), false, {{0, 4 * kBlock}}, kBlock);
  given_up.GiveUp();
  given_up.Resize(8, lost.Note());
  EXPECT_EQ(-EIO, lost.error);
  EXPECT_FALSE(given_up.HasRoom());
  Tier2 over(file.Duplicate(), false, {{0, 4 * kBlock}}, kBlock);
  over.Close();
  over.Resize(8, closed.Note());
  EXPECT_EQ(-ECANCELED, closed.error);
}

TEST(Tier2, EndsAResizeThatWaitsWhenTheSessionDoes) {
  TestFile file(4 * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, 4 * kBlock}}, kBlock);
  Fill(&tier2, 4);
  Ending shrunk;
  tier2.Resize(1, shrunk.Note());
  tier2.Close();
  EXPECT_EQ(-ECANCELED, shrunk.error);
  tier2.Free(3);
}

TEST(Tier2, IsResizedWhileThreadsPutAndFree) {
  constexpr uint32_t kPlaces = 64;
  TestFile file(kPlaces * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, kPlaces * kBlock}}, kBlock);
  std::atomic<bool> enough{false};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 3; t++) {
    threads.emplace_back([&, t] {
      const auto bytes = RandomBytes(kBlock, t);
      std::vector<uint8_t> back(kBlock);
      while (!enough) {
        uint32_t place;
        if (tier2.Put(bytes.data(), &place) == -ENOSPC) continue;
        ASSERT_EQ(0, tier2.Get(place, back.data()));
        ASSERT_EQ(bytes, back);
        tier2.Free(place);
      }
    });
  }
  // what was given back is cut off: a write or a read there would leave a trace, or fail
  for (uint32_t round = 0; round < 300; round++) {
    const uint32_t places = round % 2 == 0 ? 1 + round % kPlaces : kPlaces;
    std::atomic<int> error{1};
    tier2.Resize(places, [&](int how) { error = how; });
    while (error == 1) std::this_thread::yield();
    ASSERT_EQ(0, error);
    ASSERT_EQ(0, ftruncate(file.fd(), static_cast<off_t>(places) * kBlock));
    if (round % 2 != 0) continue;
    for (int i = 0; i < 20; i++) std::this_thread::yield();
    struct stat st;
    ASSERT_EQ(0, fstat(file.fd(), &st));
    ASSERT_EQ(static_cast<off_t>(places) * kBlock, st.st_size) << "somebody wrote beyond the end";
  }
  enough = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0u, tier2.used());
}

TEST(Tier2, GivesNoPlaceToTwoThreads) {
  constexpr uint32_t kPlaces = 64;
  TestFile file(kPlaces * kBlock);
  Tier2 tier2(file.Duplicate(), false, {{0, kPlaces * kBlock}}, kBlock);
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
