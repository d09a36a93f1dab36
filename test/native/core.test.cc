// SPDX-License-Identifier: MIT
// The pure C of kernel-module/core: bitmap, rings, layout, throttle, histogram.
#include <errno.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "kernel-module/core/snapbak_bitmap.h"
#include "kernel-module/core/snapbak_histogram.h"
#include "kernel-module/core/snapbak_layout.h"
#include "kernel-module/core/snapbak_ring.h"
#include "kernel-module/core/snapbak_throttle.h"

namespace {

using Words = std::vector<__u64>;

TEST(Bitmap, RangesAgreeWithANaiveModel) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    const uint64_t bits = 1 + random() % 400;
    Words words(snapbak_bitmap_words(bits), 0);
    std::vector<bool> model(bits, false);
    for (int i = 0; i < 4; ++i) {
      const uint64_t first = random() % bits;
      const uint64_t count = random() % (bits - first + 1);
      snapbak_bitmap_set_range(words.data(), first, count);
      for (uint64_t b = first; b < first + count; ++b) model[b] = true;
    }
    const uint64_t at = random() % bits;
    EXPECT_EQ(snapbak_bitmap_test_and_clear(words.data(), at), model[at]);
    model[at] = false;
    EXPECT_FALSE(snapbak_bitmap_test_and_clear(words.data(), at));
    uint64_t set = 0;
    for (uint64_t b = 0; b < bits; ++b) {
      EXPECT_EQ(snapbak_bitmap_test(words.data(), b), model[b]);
      set += model[b];
    }
    EXPECT_EQ(snapbak_bitmap_count(words.data(), 0, bits), set);
    const uint64_t from = random() % bits;
    const uint64_t end = from + random() % (bits - from + 1);
    uint64_t next_set = from, next_clear = from;
    while (next_set < end && !model[next_set]) ++next_set;
    while (next_clear < end && model[next_clear]) ++next_clear;
    EXPECT_EQ(snapbak_bitmap_next_set(words.data(), from, end), next_set);
    EXPECT_EQ(snapbak_bitmap_next_clear(words.data(), from, end), next_clear);
  }
}

TEST(Bitmap, AClaimTakesWhatIsPendingInItsRangeAndNothingElse) {
  Words words(2, ~0ull);
  EXPECT_EQ(snapbak_bitmap_claim(words.data(), 4, 8), 0xff0ull);
  EXPECT_EQ(snapbak_bitmap_claim(words.data(), 0, 64), ~0xff0ull);
  EXPECT_EQ(words[0], 0u);
  EXPECT_EQ(words[1], ~0ull) << "a claim stops at its word's end";
  EXPECT_EQ(snapbak_bitmap_claim(words.data(), 126, 50), 3ull << 62);
}

TEST(Bitmap, EveryBlockIsWonByExactlyOneOfTwoParties) {
  constexpr uint64_t kBits = 64 * 512;
  Words words(kBits / 64, ~0ull);
  std::vector<uint8_t> driver(kBits, 0), library(kBits, 0);
  std::thread sweep([&] {
    for (uint64_t b = 0; b < kBits; b += 64) {
      const uint64_t won = snapbak_bitmap_claim(words.data(), b, 64);
      for (int i = 0; i < 64; ++i) library[b + i] = (won >> i) & 1;
    }
  });
  std::mt19937_64 random(2);
  for (uint64_t i = 0; i < kBits; ++i) {
    const uint64_t b = random() % kBits;
    if (snapbak_bitmap_test_and_clear(words.data(), b)) ++driver[b];
  }
  sweep.join();
  for (uint64_t b = 0; b < kBits; ++b) ASSERT_EQ(driver[b] + library[b], 1) << b;
}

struct TestRing {
  explicit TestRing(uint32_t nr, uint32_t start) : entries(nr) {
    head = tail = start;
    for (snapbak_ring* ring : {&producer, &consumer}) {
      ring->head = &head;
      ring->tail = &tail;
      ring->entries = entries.data();
      ring->nr = nr;
      ring->mine = start;
    }
  }
  uint32_t head, tail;
  std::vector<snapbak_event> entries;
  snapbak_ring producer{}, consumer{};
};

TEST(Ring, CarriesEventsInOrderAcrossTheWrapOfItsPositions) {
  TestRing ring(8, 0xfffffffau);
  uint64_t sent = 0, got = 0;
  while (got < 100) {
    while (sent < 100 && snapbak_ring_room(&ring.producer) > 0) {
      snapbak_event event{};
      event.block = sent++;
      snapbak_ring_put_event(&ring.producer, 0, &event);
      snapbak_ring_publish(&ring.producer, 1);
    }
    EXPECT_EQ(snapbak_ring_ready(&ring.consumer), static_cast<int64_t>(sent - got));
    EXPECT_EQ(snapbak_ring_get_event(&ring.consumer, 0).block, got++);
    snapbak_ring_release(&ring.consumer, 1);
  }
}

TEST(Ring, AnImpossiblePositionOfTheOtherSideIsAnError) {
  TestRing ring(8, 0);
  ring.tail = 1;  // more taken than was ever put
  EXPECT_EQ(snapbak_ring_room(&ring.producer), -1);
  ring.head = 9;
  EXPECT_EQ(snapbak_ring_ready(&ring.consumer), -1);
}

TEST(Layout, AreasFollowEachOtherAlignedAndLargeEnough) {
  for (const uint64_t size : {1ull, 4096ull, 65537ull, 1ull << 30, (64ull << 40) + 5}) {
    for (uint32_t shift = SNAPBAK_MIN_BLOCK_SHIFT; shift <= SNAPBAK_MAX_BLOCK_SHIFT; ++shift) {
      auto shm = std::make_unique<snapbak_shm>();
      ASSERT_EQ(snapbak_layout_compute(shm.get(), size, shift, 100, 0), 0);
      EXPECT_EQ(shm->nr_blocks, (size + (1ull << shift) - 1) >> shift);
      EXPECT_EQ(shm->bitmap_off % SNAPBAK_PAGE, 0u);
      EXPECT_GE(shm->event_off, shm->bitmap_off + (shm->nr_blocks + 7) / 8);
      EXPECT_GE(shm->free_off, shm->event_off + shm->nr_events * sizeof(snapbak_event));
      EXPECT_GE(shm->slots_off, shm->free_off + shm->nr_free * sizeof(__u32));
      EXPECT_EQ(shm->slots_off % SNAPBAK_PAGE, 0u);
      EXPECT_EQ(shm->map_size, shm->slots_off + (100ull << shift));
      EXPECT_EQ(shm->heat_off, 0u);

      const uint64_t without = shm->slots_off;
      ASSERT_EQ(snapbak_layout_compute(shm.get(), size, shift, 100, SNAPBAK_SETUP_HEAT), 0);
      EXPECT_EQ(shm->heat_off, without);
      EXPECT_EQ(shm->slots_off % SNAPBAK_PAGE, 0u);
      EXPECT_GE(shm->slots_off, shm->heat_off + shm->nr_heat * sizeof(__u32));
      EXPECT_LE(shm->slots_off, without + 256 * 1024);
      EXPECT_EQ(shm->map_size, shm->slots_off + (100ull << shift));
    }
  }
}

TEST(Layout, RefusesGeometryOutOfRange) {
  auto shm = std::make_unique<snapbak_shm>();
  EXPECT_EQ(snapbak_layout_compute(shm.get(), 0, 16, 1, 0), -EINVAL);
  EXPECT_EQ(snapbak_layout_compute(shm.get(), ~0ull, 16, 1, 0), -EINVAL);
  EXPECT_EQ(snapbak_layout_compute(shm.get(), 4096, 11, 1, 0), -EINVAL);
  EXPECT_EQ(snapbak_layout_compute(shm.get(), 4096, 21, 1, 0), -EINVAL);
  EXPECT_EQ(snapbak_layout_compute(shm.get(), 4096, 16, 0, 0), -EINVAL);
  EXPECT_EQ(snapbak_layout_compute(shm.get(), 4096, 16, SNAPBAK_MAX_SLOTS + 1, 0), -EINVAL);
  EXPECT_EQ(snapbak_layout_compute(shm.get(), 4096, 16, 1, SNAPBAK_SETUP_HEAT << 1), -EINVAL);
}

TEST(Layout, TheCheckFindsEveryChangedNumber) {
  auto good = std::make_unique<snapbak_shm>();
  ASSERT_EQ(snapbak_layout_compute(good.get(), 1 << 30, 16, 64, SNAPBAK_SETUP_HEAT), 0);
  good->magic = SNAPBAK_MAGIC;
  good->abi_version = SNAPBAK_ABI_VERSION;
  ASSERT_EQ(snapbak_layout_check(good.get(), good->map_size), 0);
  EXPECT_EQ(snapbak_layout_check(good.get(), good->map_size - 1), -EPROTO);
  // every 32-bit word of the fixed group, but `driver` and the reserved ones
  const size_t words = offsetof(snapbak_shm, reserved0) / 4;
  for (size_t i = 0; i < words; ++i) {
    if (i == offsetof(snapbak_shm, driver) / 4) continue;
    auto bad = std::make_unique<snapbak_shm>(*good);
    reinterpret_cast<uint32_t*>(bad.get())[i] ^= 1;
    EXPECT_NE(snapbak_layout_check(bad.get(), good->map_size), 0) << "word " << i;
  }
}

snapbak_throttle Setting(uint64_t rate) {
  snapbak_throttle t{};
  t.begin = 500;
  t.full = 1000;
  t.rate = rate;
  t.max_us = 200000;
  t.block_size = 65536;
  return t;
}

TEST(Histogram, ABucketEndsWithItsPowerOfTwoMicroseconds) {
  EXPECT_EQ(snapbak_histogram_bucket(0), 0u);
  EXPECT_EQ(snapbak_histogram_bucket(1), 0u);
  for (uint32_t i = 0; i < SNAPBAK_HISTOGRAM_BUCKETS - 1; ++i) {
    const uint64_t bound = 1000ull << i;
    EXPECT_EQ(snapbak_histogram_bucket(bound - 1), i);
    EXPECT_EQ(snapbak_histogram_bucket(bound), i) << "the bound belongs to the bucket below it";
    EXPECT_EQ(snapbak_histogram_bucket(bound + 1), i + 1);
  }
  EXPECT_EQ(snapbak_histogram_bucket(~0ull), SNAPBAK_HISTOGRAM_BUCKETS - 1);
}

TEST(Throttle, IsZeroUpToTheWatermarkAndSlowerThanTheDrainFromFullOn) {
  const snapbak_throttle t = Setting(100 << 20);  // a block in 625 us
  for (uint32_t used = 0; used <= 500; ++used) EXPECT_EQ(snapbak_throttle_interval_us(&t, used), 0u);
  EXPECT_EQ(snapbak_throttle_interval_us(&t, 1000), 937u);
  EXPECT_EQ(snapbak_throttle_interval_us(&t, 4000000000u), 937u);
  const snapbak_throttle slow = Setting(1 << 18);  // a block in 250 ms
  EXPECT_EQ(snapbak_throttle_interval_us(&slow, 1000), slow.max_us);
}

TEST(Throttle, NeverFallsAsTheContainerFills) {
  for (const uint64_t rate : {0ull, 1ull, 512ull << 10, 20ull << 20, 1ull << 30, 1ull << 40}) {
    const snapbak_throttle t = Setting(rate);
    uint32_t before = 0;
    for (uint32_t used = 0; used <= 1100; ++used) {
      const uint32_t delay = snapbak_throttle_interval_us(&t, used);
      EXPECT_GE(delay, before) << used << " at " << rate;
      EXPECT_LE(delay, t.max_us);
      before = delay;
    }
  }
}

TEST(Throttle, FollowsTheDrainRate) {
  const snapbak_throttle slow = Setting(20 << 20), fast = Setting(200 << 20);
  // half way: x = 1/2, so the delay is T / 2; T = 64 KiB / 20 MiB/s = 3125 us
  EXPECT_NEAR(snapbak_throttle_interval_us(&slow, 750), 3125 / 2, 5);
  EXPECT_NEAR(snapbak_throttle_interval_us(&fast, 750), 312 / 2, 2);
}

TEST(Throttle, GrowsSmoothly) {
  // one more slot never more than doubles a delay that people could notice
  const snapbak_throttle t = Setting(20 << 20);
  for (uint32_t used = 520; used + 2 < 1000; ++used) {
    const uint32_t here = snapbak_throttle_interval_us(&t, used);
    if (here < 100) continue;
    EXPECT_LE(snapbak_throttle_interval_us(&t, used + 1), 2 * here + 1) << used;
  }
}

TEST(Throttle, SettlesWhereTheDrainsPaceIsBelowFull) {
  const snapbak_throttle t = Setting(100 << 20);
  EXPECT_LT(snapbak_throttle_interval_us(&t, 800), 625u);
  EXPECT_GT(snapbak_throttle_interval_us(&t, 820), 625u);
}

TEST(Throttle, WritesDepartOneAfterTheOther) {
  __u64 next = 0;
  EXPECT_EQ(snapbak_throttle_depart_ns(&next, 5'000'000, 100, 1, 1000000), 5'100'000u);
  EXPECT_EQ(snapbak_throttle_depart_ns(&next, 5'000'000, 100, 3, 1000000), 5'400'000u);
  EXPECT_EQ(snapbak_throttle_depart_ns(&next, 9'000'000, 100, 1, 1000000), 9'100'000u)
      << "nobody was before it";
  EXPECT_EQ(snapbak_throttle_depart_ns(&next, 9'000'000, 0, 1, 1000000), 9'100'000u)
      << "and nobody overtakes";
}

TEST(Throttle, NoWriteWaitsLongerThanItsCeiling) {
  __u64 next = 0;
  for (int i = 0; i < 100; ++i) {
    EXPECT_LE(snapbak_throttle_depart_ns(&next, 1000, 900000, 1u << 20, 50), 1000u + 50'000);
  }
  next = 1ull << 62;
  EXPECT_EQ(snapbak_throttle_depart_ns(&next, 0, 1, ~0ull, ~0u), 1'000'000'000u);
}

TEST(Throttle, TakesAnySettingWithoutOverflowOrSurprise) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200000; ++i) {
    snapbak_throttle t{};
    t.begin = static_cast<uint32_t>(random() >> (32 + random() % 32));
    t.full = static_cast<uint32_t>(random() >> (32 + random() % 32));
    t.rate = random() >> (random() % 64);
    t.max_us = static_cast<uint32_t>(random() >> (32 + random() % 32));
    t.block_size = 1u << (12 + random() % 9);
    const uint32_t used = static_cast<uint32_t>(random() >> (32 + random() % 32));
    const uint32_t delay = snapbak_throttle_interval_us(&t, used);
    EXPECT_LE(delay, SNAPBAK_THROTTLE_CEILING_US);
    EXPECT_LE(delay, t.max_us);
    if (t.begin == 0 || t.full <= t.begin || used <= t.begin) {
      EXPECT_EQ(delay, 0u);
    }
  }
}

}  // namespace
