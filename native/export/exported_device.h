// SPDX-License-Identifier: MIT
// A device of ours as others see it: NBD clients, and what compiles block lists.
#pragma once

#include <errno.h>

#include <cstddef>
#include <cstdint>

namespace snapbak {

// A device that can be read, and perhaps written, from several threads at once. Every method blocks and
// returns 0 or a negative errno; ranges lie inside size().
class ExportedDevice {
 public:
  virtual ~ExportedDevice() = default;
  virtual uint64_t size() const = 0;
  virtual bool read_only() const = 0;
  virtual int Read(uint64_t offset, void* data, size_t length) = 0;
  virtual int Write(uint64_t /*offset*/, const void* /*data*/, size_t /*length*/, bool /*fua*/) {
    return -EROFS;
  }
  virtual int WriteZeroes(uint64_t /*offset*/, uint64_t /*length*/, bool /*fua*/) { return -EROFS; }
  virtual int Discard(uint64_t /*offset*/, uint64_t /*length*/) { return -EROFS; }
  virtual int Flush() { return -EROFS; }
  // Whoever waits inside comes back with -ESHUTDOWN, now and from now on.
  virtual void Shutdown() = 0;
};

}  // namespace snapbak
