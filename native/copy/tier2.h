// SPDX-License-Identifier: MIT
// The second tier of the container: a preallocated file, a partition or an
// external device, cut into block-sized places. Places are reused as they
// drain. Thread-safe; the caller remembers which block lies in which place.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../driver/unique_fd.h"

namespace snapbak {

class Tier2 {
 public:
  // `fd` is open for reading and writing, with O_DIRECT where `direct`;
  // `capacity` bytes of it belong to us. Holds 4 bytes a place of memory.
  Tier2(UniqueFd fd, bool direct, uint64_t capacity, uint32_t block_size);

  uint32_t total() const { return total_; }
  uint32_t used() const;

  // Takes a free place and writes `block_size` bytes there (aligned to 4 KiB
  // in memory). 0, -ENOSPC with all places taken, or the device's -errno (the
  // place is free again).
  int Put(const void* data, uint32_t* place);
  // Reads a place into `data` (aligned to 4 KiB). It stays taken.
  int Get(uint32_t place, void* data);
  void Free(uint32_t place);

 private:
  UniqueFd fd_;
  bool direct_;
  uint32_t block_size_;
  uint32_t total_;
  mutable std::mutex mutex_;
  std::vector<uint32_t> free_;  // guarded by mutex_
};

}  // namespace snapbak
