// SPDX-License-Identifier: MIT
// Where a backup's blocks go. Methods are called from several copy threads at
// once, block, and return 0 or a negative errno.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snapbak {

class Target {
 public:
  virtual ~Target() = default;

  // `data` stays valid until the call returns, no longer. Short writes do not
  // exist: all of it, or an error.
  virtual int Write(uint64_t offset, const void* data, size_t length) = 0;

  // The range reads as zeroes afterwards; a hole where the target can.
  virtual int WriteZeroes(uint64_t offset, uint64_t length) = 0;

  // Everything written so far is durable afterwards.
  virtual int Flush() = 0;
};

}  // namespace snapbak
