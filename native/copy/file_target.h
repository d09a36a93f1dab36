// SPDX-License-Identifier: MIT
// A target in a file or on a block device.
#pragma once

#include "../driver/unique_fd.h"
#include "target.h"

namespace snapbak {

class FileTarget : public Target {
 public:
  // `fresh`: the range is known to read as zeroes, so zeroes need no write (a
  // file just created and truncated). Otherwise zeroes are punched
  // (fallocate), zeroed by the device (BLKZEROOUT), or written.
  FileTarget(UniqueFd fd, bool fresh) : fd_(std::move(fd)), fresh_(fresh) {}

  int Write(uint64_t offset, const void* data, size_t length) override;
  int WriteZeroes(uint64_t offset, uint64_t length) override;
  int Flush() override;
  bool readable() const override;
  int Read(uint64_t offset, void* data, size_t length, const std::atomic<bool>& stop) override;

 private:
  UniqueFd fd_;
  const bool fresh_;
};

}  // namespace snapbak
