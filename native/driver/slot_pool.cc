// SPDX-License-Identifier: MIT
#include "slot_pool.h"

#include <errno.h>

namespace snapbak {

SlotPool::SlotPool(SharedMemory* memory) : events_(memory->EventRing()), returned_(memory->FreeRing()) {
  const uint32_t slots = memory->geometry().nr_slots;
  free_.reserve(slots);
  for (uint32_t i = slots; i > 0; --i) free_.push_back(i - 1);
  with_library_.resize(slots, false);
}

int SlotPool::CollectReturned() {
  const int64_t ready = snapbak_ring_ready(&returned_);
  if (ready < 0) return -EPROTO;
  for (int64_t i = 0; i < ready; ++i) {
    const uint32_t slot = snapbak_ring_get_slot(&returned_, static_cast<uint32_t>(i));
    if (slot >= with_library_.size() || !with_library_[slot]) return -EPROTO;
    with_library_[slot] = false;
    free_.push_back(slot);
  }
  if (ready > 0) snapbak_ring_release(&returned_, static_cast<uint32_t>(ready));
  return 0;
}

int SlotPool::Take(uint32_t want, std::vector<uint32_t>* slots) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (free_.size() < want) {
    const int ret = CollectReturned();
    if (ret != 0) return ret;
  }
  const int64_t room = snapbak_ring_room(&events_);
  // The library only ever makes more room, so less than we have reserved is rubbish.
  if (room < reserved_) return -EPROTO;
  uint32_t take = want;
  if (take > free_.size()) take = static_cast<uint32_t>(free_.size());
  if (take > room - reserved_) take = static_cast<uint32_t>(room - reserved_);
  for (uint32_t i = 0; i < take; ++i) {
    slots->push_back(free_.back());
    free_.pop_back();
  }
  reserved_ += take;
  used_.store(static_cast<uint32_t>(with_library_.size() - free_.size()), std::memory_order_relaxed);
  return static_cast<int>(take);
}

void SlotPool::PutBack(const uint32_t* slots, size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.insert(free_.end(), slots, slots + count);
  reserved_ -= static_cast<uint32_t>(count);
  used_.store(static_cast<uint32_t>(with_library_.size() - free_.size()), std::memory_order_relaxed);
}

void SlotPool::Publish(snapbak_event* events, size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < count; ++i) {
    snapbak_event& event = events[i];
    if (event.type == SNAPBAK_EVENT_CAPTURED) {
      with_library_[event.slot] = true;
    } else {
      free_.push_back(event.slot);
      event.slot = 0;
    }
    snapbak_ring_put_event(&events_, static_cast<uint32_t>(i), &event);
  }
  reserved_ -= static_cast<uint32_t>(count);
  snapbak_ring_publish(&events_, static_cast<uint32_t>(count));
  used_.store(static_cast<uint32_t>(with_library_.size() - free_.size()), std::memory_order_relaxed);
}

bool SlotPool::TryPublish(const snapbak_event& event) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t room = snapbak_ring_room(&events_);
  if (room <= reserved_) return false;
  snapbak_ring_put_event(&events_, 0, &event);
  snapbak_ring_publish(&events_, 1);
  return true;
}

}  // namespace snapbak
