// SPDX-License-Identifier: MIT
// Gives drained slots back to the driver: each at once, or, once the container
// was full, all together when a selected amount is free. Held writes then get
// slots in a group, instead of one for one at the edge.
//
// Full: a slot comes back while the driver holds writes. From then on slots are
// kept here until no more than `drain_to` are in use. Blocks that held writes
// want are copied first all the while, and need no slot.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "../driver/shared_memory.h"

namespace snapbak {

class SlotReturn {
 public:
  SlotReturn(SharedMemory* memory, uint32_t drain_to);

  // `used`: slots that are still in use without this one. False: the driver
  // spoiled the free ring. The caller kicks.
  bool Return(uint32_t slot, uint32_t used);

  // Drained, and not given back yet.
  uint32_t kept() const;

 private:
  bool PublishKept();

  const snapbak_shm* const header_;
  const uint32_t drain_to_;

  mutable std::mutex mutex_;  // guards the rest
  snapbak_ring ring_;
  std::vector<uint32_t> kept_;
  bool draining_ = false;
};

}  // namespace snapbak
