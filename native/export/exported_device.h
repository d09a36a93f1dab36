// SPDX-License-Identifier: MIT
// A device of ours that NBD clients may be shown: the point-in-time view, a
// restore on demand. What stands behind it is its own affair; what shows it
// (ExportServer) knows nothing but this.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace snapbak {

// A device that can be read, and perhaps written, from several threads at once.
// Every method blocks and returns 0 or a negative errno; ranges lie inside
// size(). A range may begin and end at any byte.
class ExportedDevice {
 public:
  virtual ~ExportedDevice() = default;

  virtual uint64_t size() const = 0;
  virtual bool read_only() const = 0;

  // All of it, or an error: `data` goes to a client as it is.
  virtual int Read(uint64_t offset, void* data, size_t length) = 0;

  // `fua`: durable when it returns.
  virtual int Write(uint64_t offset, const void* data, size_t length, bool fua) {
    (void)offset, (void)data, (void)length, (void)fua;
    return -EROFS;
  }
  virtual int WriteZeroes(uint64_t offset, uint64_t length, bool fua) {
    (void)offset, (void)length, (void)fua;
    return -EROFS;
  }
  // Advice; what cannot be discarded stays.
  virtual int Discard(uint64_t offset, uint64_t length) {
    (void)offset, (void)length;
    return -EROFS;
  }
  // Every write that was acknowledged before is durable afterwards.
  virtual int Flush() { return 0; }

  // Whoever waits inside comes back with -ESHUTDOWN, now and from now on. Any
  // thread; idempotent.
  virtual void Shutdown() = 0;
};

}  // namespace snapbak
