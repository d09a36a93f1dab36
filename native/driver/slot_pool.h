// SPDX-License-Identifier: MIT
// The core's slots (kernel-module/core/snapbak_slots.h) under a lock, with
// their memory: which slots are free, and room for events.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "../../kernel-module/core/snapbak_slots.h"
#include "shared_memory.h"

namespace snapbak {

class SlotPool {
 public:
  explicit SlotPool(SharedMemory* memory);

  // Takes up to `want` slots with as many event places; appends the slots.
  // 0 taken: none free. -EPROTO: the library wrote rubbish.
  int Take(uint32_t want, std::vector<uint32_t>* slots);

  // Gives back slots that were not used, with their event places.
  void PutBack(const uint32_t* slots, size_t count);

  // Publishes events for which places were taken. Slots of CAPTURED events go
  // to the library; those of INVALID events (event.slot still names them)
  // become free again.
  void Publish(snapbak_event* events, size_t count);

  // Publishes an event without a slot, if there is room. False: no room.
  bool TryPublish(const snapbak_event& event);

  // Slots that could be taken now, or -EPROTO.
  int Available();

  // Slots that are not free; the driver's own truth.
  uint32_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  void StoreUsed() { used_.store(snapbak_slots_used(&slots_), std::memory_order_relaxed); }

  std::mutex mutex_;  // guards all below
  snapbak_slots slots_{};
  std::vector<uint32_t> free_;
  std::vector<__u64> with_library_;
  std::atomic<uint32_t> used_{0};  // written under mutex_
};

}  // namespace snapbak
