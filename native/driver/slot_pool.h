// SPDX-License-Identifier: MIT
// The driver's side of both rings: which slots are free, and room for events.
// What comes back from the library is checked here, and nowhere else.
//
// A capture takes its slots and its places in the event ring together, before
// it clears a bit, so that no event is ever lost for want of room.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

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

  // Slots that are not free; the driver's own truth.
  uint32_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  int CollectReturned();

  std::mutex mutex_;  // guards all below
  snapbak_ring events_;
  snapbak_ring returned_;
  uint32_t reserved_ = 0;           // places taken in the event ring, not published
  std::vector<uint32_t> free_;      // a stack: the slot used last is the warmest
  std::vector<bool> with_library_;  // by slot
  std::atomic<uint32_t> used_{0};   // written under mutex_
};

}  // namespace snapbak
