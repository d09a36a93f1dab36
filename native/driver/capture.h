// SPDX-License-Identifier: MIT
// The driver's side of one armed session: makes the blocks of a write safe
// before the write may go on. The heart of the user-space driver.
//
// A block's way, seen from a write that touches it:
//   bit set, slot free   claim -> read the old block into the slot -> publish
//                        CAPTURED (or INVALID) -> the write goes on
//   bit set, no slot     held: publish WANTED, wait for a kick, look again
//   bit clear, in flight wait for the other write's capture
//   bit clear            safe: go on
// A write never waits for one block while it owns the capture of another, so
// two writes cannot wait for each other.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "inflight_table.h"
#include "lower_device.h"
#include "shared_memory.h"
#include "slot_pool.h"

namespace snapbak {

class Capture {
 public:
  struct Policy {
    uint32_t on_full = SNAPBAK_ON_FULL_BREAK;
    std::chrono::milliseconds hold_timeout{30000};
  };

  // `memory` and `lower` outlive it. `event_fd`: the eventfd that wakes the library.
  Capture(LowerDevice* lower, SharedMemory* memory, int event_fd, const Policy& policy);

  // Returns when every block that [offset, offset + length) touches is safe, or
  // the session is broken. Bounded by the hold policy.
  void MakeSafe(uint64_t offset, uint64_t length);

  // Calls `discard(offset, length)` for the parts that may be discarded; drops
  // the parts in blocks that are still pending. 0 or the first error.
  int ForDiscardable(uint64_t offset, uint64_t length, const std::function<int(uint64_t, uint64_t)>& discard);

  // The library cleared bits, returned slots or took events.
  void Kick();

  // Ends the session: held writes go on at once. Only the first reason counts.
  void Break(uint32_t reason, int error);
  bool broken() const { return broken_.load(std::memory_order_acquire); }

  // Wakes the library if it sleeps.
  void WakeLibrary();

  void Count(snapbak_counter counter, uint64_t n = 1) {
    __atomic_fetch_add(&memory_->header()->counters[counter], n, __ATOMIC_RELAXED);
  }

 private:
  using Clock = std::chrono::steady_clock;

  // One write's passage: when it must be let go, and scratch memory.
  struct Passage {
    Clock::time_point deadline = Clock::time_point::max();
    bool delayed = false;
    std::vector<uint32_t> slots;
    std::vector<snapbak_event> events;
  };

  uint64_t CaptureRun(uint64_t first, uint64_t end, Passage* passage);
  void ReadBlocks(Passage* passage);
  void Hold(uint64_t block, Passage* passage);
  void Delay(uint64_t blocks, Passage* passage);
  bool WorthALook(uint64_t block);
  void StoreHolding();

  LowerDevice* lower_;
  SharedMemory* memory_;
  __u64* const bitmap_;
  const uint32_t block_shift_;
  const int event_fd_;
  const Policy policy_;

  std::atomic<bool> broken_{false};
  InflightTable inflight_;
  SlotPool pool_;

  // A held block: writes that wait for it, and whether WANTED is out.
  struct Held {
    uint32_t writes = 0;
    bool wanted = false;
  };
  std::mutex hold_mutex_;  // guards the rest; the slot pool's lock nests inside it
  std::condition_variable kicked_;
  uint32_t holding_ = 0;  // mirrored to the header's driver_waiting
  std::unordered_map<uint64_t, Held> held_;
};

}  // namespace snapbak
