// SPDX-License-Identifier: MIT
// When each region of the engine's origin was written last, from its opening on:
// a word a region, at most 256 KiB. The mechanism is kernel-module/core/snapbak_heat.h.
//
// The words are written by any number of writers, relaxed, and read by START,
// relaxed: nothing else depends on what they say.
#pragma once

#include <time.h>

#include <cstdint>
#include <vector>

#include "../../kernel-module/core/snapbak_heat.h"
#include "shared_memory.h"

namespace snapbak {

class HeatMap {
 public:
  // `size`: bytes of the origin, at least 1.
  explicit HeatMap(uint64_t size) : shift_(snapbak_heat_shift(size)), ticks_(snapbak_heat_regions(size)) {}

  // A write of at least one byte inside the origin. Any thread.
  void Touch(uint64_t offset, uint64_t length) {
    snapbak_heat_touch(ticks_.data(), offset >> shift_, (offset + length - 1) >> shift_, Now());
  }

  // Fills the session's heat area, if it has one.
  void Publish(SharedMemory* memory) const {
    if (memory->heat() == nullptr) return;
    snapbak_heat_publish(memory->header(), memory->heat(), ticks_.data(),
                         static_cast<uint32_t>(ticks_.size()), Now());
  }

 private:
  // Ticks of 134 ms, from 1 on; the coarse clock costs a few nanoseconds.
  static uint32_t Now() {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    const uint64_t ns = static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(ts.tv_nsec);
    return static_cast<uint32_t>(ns >> 27) + 1;
  }

  const uint32_t shift_;
  std::vector<__u32> ticks_;
};

}  // namespace snapbak
