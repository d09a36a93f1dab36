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
#include <set>
#include <unordered_map>
#include <utility>
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
    std::chrono::milliseconds stall_timeout{0};  // 0: no watchdog
  };

  // `memory` and `lower` outlive it. `wake_fd`: where the library is woken (wake.h).
  Capture(LowerDevice* lower, SharedMemory* memory, int wake_fd, const Policy& policy);

  // Returns when every block that [offset, offset + length) touches is safe, or
  // the session is broken. Bounded by the hold policy.
  void MakeSafe(uint64_t offset, uint64_t length);

  // Calls `discard(offset, length)` for the parts that may be discarded; drops
  // the parts in blocks that are still pending. 0 or the first error.
  int ForDiscardable(uint64_t offset, uint64_t length, const std::function<int(uint64_t, uint64_t)>& discard);

  // The library cleared bits, returned slots or took events; or a write gave slots back.
  void Kick();

  // Ends the session: held writes go on at once. Only the first reason counts.
  void Break(uint32_t reason, int error);
  bool broken() const { return broken_.load(std::memory_order_acquire); }
  // The session is complete: whatever the bitmap says from now on, no write is
  // captured or held. Those that are held go on, kicked or not.
  void LetGo();

  // Wakes the library if it sleeps.
  void WakeLibrary();

  using Clock = std::chrono::steady_clock;

  // A request of an application that arrived then has ended.
  void CountRequest(Clock::time_point arrived);

 private:
  // One write's passage: since when it is held, and scratch memory.
  struct Passage {
    Clock::time_point held_since = Clock::time_point::max();
    bool delayed = false;
    bool granted = false;  // one free slot is for it, if no new write takes it first
    std::vector<uint32_t> slots;
    std::vector<snapbak_event> events;
  };

  void Count(snapbak_counter counter, uint64_t n = 1) {
    __atomic_fetch_add(&memory_->header()->counters[counter], n, __ATOMIC_RELAXED);
  }
  // The sum, the longest and the histogram of times that began then and end now, `n` alike.
  struct Times {
    snapbak_histogram histogram;
    snapbak_counter sum, longest;
  };
  void CountTime(const Times& times, Clock::time_point began, uint64_t n = 1);

  uint64_t CaptureRun(uint64_t first, uint64_t end, Passage* passage);
  void ReadBlocks(Passage* passage);
  void Hold(uint64_t block, Passage* passage);
  void UseGrant(Passage* passage);
  void Delay(uint64_t blocks, Passage* passage);
  bool WorthALook(uint64_t block, const Passage* passage);
  bool Stalled(Clock::time_point now);
  // Broken or complete: nothing that a write could wait for, but captures under way.
  bool over() const { return broken() || let_go_.load(std::memory_order_acquire); }
  void StoreHolding();

  LowerDevice* lower_;
  SharedMemory* memory_;
  __u64* const bitmap_;
  const uint32_t block_shift_;
  const int wake_fd_;
  const Policy policy_;

  std::atomic<bool> broken_{false};
  std::atomic<bool> let_go_{false};
  InflightTable inflight_;
  SlotPool pool_;

  uint32_t granted_ = 0;  // of the free slots, those for writes that are held no more and did not try yet
  // A held block: writes that wait for it, and whether WANTED is out.
  struct Held {
    uint32_t writes = 0;
    bool wanted = false;
  };
  std::mutex hold_mutex_;  // guards the rest; the slot pool's lock nests inside it
  std::condition_variable kicked_;
  std::condition_variable departures_;  // only a broken session wakes delayed writes early
  __u64 next_departure_ = 0;            // of delayed writes, ns of Clock
  // Held writes, the longest held first: free slots are for as many of the first. Their number is mirrored
  // to the header's driver_waiting.
  std::set<std::pair<Clock::time_point, const Passage*>> queue_;
  std::unordered_map<uint64_t, Held> held_;
  // The watchdog: the library's last sign of progress, and when a held write saw it change.
  uint64_t heartbeat_ = 0;
  Clock::time_point heartbeat_at_{};
};

}  // namespace snapbak
