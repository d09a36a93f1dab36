// SPDX-License-Identifier: MIT
// Blocks whose old content is being read at this moment: whoever finds a
// block's bit clear, but the block here, waits until its capture is done.
//
// Each bucket has a lock, under which the pending bit is tested and cleared.
// `count` is raised before the bit is cleared and lowered after the capture,
// so that a reader who sees the bit clear and then the count 0 knows, without
// the lock, that no capture of the bucket's blocks is under way.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "../../kernel-module/core/snapbak_bitmap.h"

namespace snapbak {

class InflightTable {
 public:
  // The driver's half of the claim. True: `block` was pending, is the caller's
  // now, and is in the table until Remove().
  bool Claim(__u64* bitmap, uint64_t block) {
    Bucket& bucket = BucketOf(block);
    std::lock_guard<std::mutex> lock(bucket.mutex);
    bucket.count.fetch_add(1, std::memory_order_seq_cst);
    if (!snapbak_bitmap_test_and_clear(bitmap, block)) {
      bucket.count.fetch_sub(1, std::memory_order_release);
      return false;
    }
    bucket.blocks.push_back(block);
    return true;
  }

  void Remove(uint64_t block) {
    Bucket& bucket = BucketOf(block);
    bool waiters;
    {
      std::lock_guard<std::mutex> lock(bucket.mutex);
      for (size_t i = 0; i < bucket.blocks.size(); ++i) {
        if (bucket.blocks[i] == block) {
          bucket.blocks[i] = bucket.blocks.back();
          bucket.blocks.pop_back();
          break;
        }
      }
      bucket.count.fetch_sub(1, std::memory_order_release);
      waiters = bucket.waiters != 0;
    }
    if (waiters) bucket.done.notify_all();
  }

  // True if nothing of the bucket of `block` is being captured. Exact for a
  // caller that saw the bit clear with acquire.
  bool Idle(uint64_t block) { return BucketOf(block).count.load(std::memory_order_acquire) == 0; }

  // Waits until no block of [first, end) is in the table; true if it had to.
  bool Wait(uint64_t first, uint64_t end) {
    bool waited = false;
    const uint64_t buckets = end - first < kBuckets ? end - first : kBuckets;
    for (uint64_t i = 0; i < buckets; ++i) {
      Bucket& bucket = BucketOf(first + i);
      if (bucket.count.load(std::memory_order_acquire) == 0) continue;
      std::unique_lock<std::mutex> lock(bucket.mutex);
      while (Holds(bucket, first, end)) {
        waited = true;
        ++bucket.waiters;
        bucket.done.wait(lock);
        --bucket.waiters;
      }
    }
    return waited;
  }

 private:
  static constexpr uint64_t kBuckets = 256;

  struct alignas(64) Bucket {
    std::atomic<uint32_t> count{0};
    std::mutex mutex;
    std::condition_variable done;
    uint32_t waiters = 0;          // guarded by mutex
    std::vector<uint64_t> blocks;  // guarded by mutex; a handful at most
  };

  static bool Holds(const Bucket& bucket, uint64_t first, uint64_t end) {
    for (const uint64_t block : bucket.blocks) {
      if (block >= first && block < end) return true;
    }
    return false;
  }

  Bucket& BucketOf(uint64_t block) { return buckets_[block % kBuckets]; }

  std::array<Bucket, kBuckets> buckets_;
};

}  // namespace snapbak
