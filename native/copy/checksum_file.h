// SPDX-License-Identifier: MIT
// The backup's `checksums`: one little-endian CRC32C a block, at 4 * block; 0
// bytes (a hole) for blocks that are not listed. Thread-safe; memory does not
// grow with the origin.
#pragma once

#include <cstdint>

#include "../driver/unique_fd.h"

namespace snapbak {

class ChecksumFile {
 public:
  explicit ChecksumFile(UniqueFd fd) : fd_(std::move(fd)) {}

  // Writes the checksums of `count` neighbouring blocks. 0 or -errno.
  int Put(uint64_t first_block, const uint32_t* sums, uint32_t count);
  int Get(uint64_t first_block, uint32_t* sums, uint32_t count);
  int Flush();

 private:
  UniqueFd fd_;
};

}  // namespace snapbak
