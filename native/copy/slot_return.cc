// SPDX-License-Identifier: MIT
// Gives drained slots back to the driver, one by one or in a group.
#include "slot_return.h"

namespace snapbak {

SlotReturn::SlotReturn(SharedMemory* memory, uint32_t drain_to)
    : header_(memory->header()), drain_to_(drain_to), ring_(memory->FreeRing()) {
  kept_.reserve(memory->geometry().nr_slots);
}

bool SlotReturn::Return(uint32_t slot, uint32_t used) {
  std::lock_guard lock(mutex_);
  kept_.push_back(slot);
  // The driver counts a write before it looks for a slot a last time, so one that is not seen here sees this
  // slot.
  draining_ = draining_ || snapbak_load_relaxed(&header_->driver_waiting) != 0;
  if (draining_ && used > drain_to_) return true;
  draining_ = false;
  return PublishKept();
}

bool SlotReturn::PublishKept() {
  const auto count = static_cast<uint32_t>(kept_.size());
  if (snapbak_ring_room(&ring_) < static_cast<int64_t>(count))
    return false;  // it has an entry for every slot
  for (uint32_t i = 0; i < count; i++) snapbak_ring_put_slot(&ring_, i, kept_[i]);
  snapbak_ring_publish(&ring_, count);
  kept_.clear();
  return true;
}

uint32_t SlotReturn::kept() const {
  std::lock_guard lock(mutex_);
  return static_cast<uint32_t>(kept_.size());
}

}  // namespace snapbak
