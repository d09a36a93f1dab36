// SPDX-License-Identifier: MIT
// Where a backup's blocks go. Methods are called from several copy threads at
// once, block, and return 0 or a negative errno.
#pragma once

#include <atomic>
#include <cerrno>
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

  // What was written can be read back.
  virtual bool readable() const { return false; }
  // Of bytes that were written. May come back with -ECANCELED; see below.
  virtual int Read(uint64_t /*offset*/, void* /*data*/, size_t /*length*/,
                   const std::atomic<bool>& /*stop*/) {
    return -EOPNOTSUPP;
  }
  // Reads that may take for ever come back with -ECANCELED; later ones only if their `stop` is set. Whoever
  // sets it calls this afterwards: then no read with it stays inside, not even one that is about to begin.
  virtual void CancelReads() {}
};

}  // namespace snapbak
