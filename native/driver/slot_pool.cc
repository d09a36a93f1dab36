// SPDX-License-Identifier: MIT
#include "slot_pool.h"

namespace snapbak {

SlotPool::SlotPool(SharedMemory* memory) {
  const uint32_t slots = memory->geometry().nr_slots;
  free_.resize(slots);
  with_library_.resize(snapbak_bitmap_words(slots));
  slots_.events = memory->EventRing();
  slots_.returned = memory->FreeRing();
  slots_.free = free_.data();
  slots_.with_library = with_library_.data();
  snapbak_slots_init(&slots_, slots);
}

int SlotPool::Take(uint32_t want, std::vector<uint32_t>* slots) {
  const size_t before = slots->size();
  slots->resize(before + want);
  std::lock_guard<std::mutex> lock(mutex_);
  const int taken = snapbak_slots_take(&slots_, want, slots->data() + before);
  slots->resize(before + static_cast<size_t>(taken > 0 ? taken : 0));
  StoreUsed();
  return taken;
}

void SlotPool::PutBack(const uint32_t* slots, size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  snapbak_slots_put_back(&slots_, slots, static_cast<uint32_t>(count));
  StoreUsed();
}

void SlotPool::Publish(snapbak_event* events, size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  snapbak_slots_publish(&slots_, events, static_cast<uint32_t>(count));
  StoreUsed();
}

bool SlotPool::TryPublish(const snapbak_event& event) {
  std::lock_guard<std::mutex> lock(mutex_);
  return snapbak_slots_try_publish(&slots_, &event) != 0;
}

int SlotPool::Available() {
  std::lock_guard<std::mutex> lock(mutex_);
  const int available = snapbak_slots_available(&slots_);
  StoreUsed();
  return available;
}

}  // namespace snapbak
