// SPDX-License-Identifier: MIT
// What the engine forwards to: an image file or a block device. Thread-safe;
// each method blocks and returns 0 or a negative errno. No short I/O: all of
// it, or an error. Callers have checked offset and length against size().
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "unique_fd.h"

namespace snapbak {

class LowerDevice {
 public:
  LowerDevice() = default;
  LowerDevice(LowerDevice&&) = default;
  LowerDevice& operator=(LowerDevice&&) = default;

  // -EBUSY: another Snapbak driver serves it (an advisory lock says so). A block device is asked for again
  // for `patience`: udevd looks at one under such a lock whenever somebody who could write it has closed it.
  static int Open(const std::string& path, bool read_only, LowerDevice* out,
                  std::chrono::milliseconds patience = {});
  // The same of what is open already; `path` is its name, for messages.
  static int Adopt(UniqueFd fd, const std::string& path, bool read_only, LowerDevice* out,
                   std::chrono::milliseconds patience = {});

  uint64_t size() const { return size_; }
  bool is_block_device() const { return is_block_device_; }
  uint32_t sector_size() const { return sector_size_; }
  const std::string& path() const { return path_; }
  dev_t device() const { return device_; }                 // of a block device, else 0
  ino_t inode() const { return inode_; }                   // of a file, else 0
  dev_t file_system_device() const { return fs_device_; }  // that holds the file, else 0

  int Read(void* data, size_t length, uint64_t offset) const;
  // Neighbouring bytes into several buffers; changes `iov`.
  int ReadV(struct iovec* iov, int count, uint64_t offset) const;
  int Write(const void* data, size_t length, uint64_t offset, bool fua);
  // may_trim: holes are welcome. fast: -EOPNOTSUPP where it would have to write.
  int WriteZeroes(uint64_t offset, uint64_t length, bool may_trim, bool fast);
  // Advice: what cannot be discarded stays. 0 for "not supported".
  int Discard(uint64_t offset, uint64_t length);
  int Flush();

  // Calls `each(offset, length, hole)` over [offset, offset + length) in order.
  int Extents(uint64_t offset, uint64_t length,
              const std::function<int(uint64_t, uint64_t, bool)>& each) const;

  // Lets another driver serve the image; this one is through with it.
  void Unlock();

  // A read-only descriptor of its own, O_DIRECT on a block device: for the sweep.
  int OpenForSweep(UniqueFd* out) const;

 private:
  int ZeroByWriting(uint64_t offset, uint64_t length);

  std::string path_;
  UniqueFd fd_;
  uint64_t size_ = 0;
  bool is_block_device_ = false;
  uint32_t sector_size_ = 512;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  dev_t fs_device_ = 0;
};

}  // namespace snapbak
