// SPDX-License-Identifier: MIT
// Places of the second tier. The spiller puts captured blocks here when slots
// run short; copiers get them back when the target has caught up.
#include "tier2.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "file_io.h"

namespace snapbak {

Tier2::Tier2(UniqueFd fd, bool direct, uint64_t capacity, uint32_t block_size)
    : fd_(std::move(fd)),
      direct_(direct),
      block_size_(block_size),
      total_(static_cast<uint32_t>(
          std::min<uint64_t>(capacity / block_size, std::numeric_limits<uint32_t>::max()))) {
  // The last is taken first: a filling container is written in ascending order.
  free_.resize(total_);
  for (uint32_t i = 0; i < total_; i++) free_[i] = total_ - 1 - i;
}

uint32_t Tier2::used() const {
  std::lock_guard lock(mutex_);
  return total_ - static_cast<uint32_t>(free_.size());
}

int Tier2::Put(const void* data, uint32_t* place) {
  uint32_t taken;
  {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return -ENOSPC;
    taken = free_.back();
    free_.pop_back();
  }
  int error = WriteAll(fd_.get(), data, block_size_, uint64_t{taken} * block_size_);
  if (error != 0) {
    Free(taken);
    // -ENOSPC means "all places taken" and is no failure; a medium that is full is one
    return error == -ENOSPC ? -EIO : error;
  }
  *place = taken;
  return 0;
}

int Tier2::Get(uint32_t place, void* data) {
  const int error = ReadAll(fd_.get(), data, block_size_, uint64_t{place} * block_size_);
  if (error == 0 && !direct_) {
    // read once, never again: do not let it push others out of the page cache
    (void)posix_fadvise(fd_.get(), static_cast<off_t>(uint64_t{place} * block_size_), block_size_,
                        POSIX_FADV_DONTNEED);
  }
  return error == -ENODATA ? -EIO : error;
}

void Tier2::Free(uint32_t place) {
  std::lock_guard lock(mutex_);
  free_.push_back(place);  // never grows beyond total_, which is reserved
}

}  // namespace snapbak
