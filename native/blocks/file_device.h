// SPDX-License-Identifier: MIT
// A file or a block device, opened by somebody else, as a device that is only read.
#pragma once

#include <atomic>

#include "../driver/unique_fd.h"
#include "../export/exported_device.h"

namespace snapbak {

class FileDevice : public ExportedDevice {
 public:
  FileDevice(UniqueFd fd, uint64_t size) : fd_(std::move(fd)), size_(size) {}

  uint64_t size() const override { return size_; }
  bool read_only() const override { return true; }
  int Read(uint64_t offset, void* data, size_t length) override;
  void Shutdown() override { shut_down_ = true; }

  // As long as the device lives.
  int fd() const { return fd_.get(); }

 private:
  const UniqueFd fd_;
  const uint64_t size_;
  std::atomic<bool> shut_down_{false};
};

// A part of a device, e.g. a partition: what a file system's own code sees as the whole.
struct SourceRange {
  ExportedDevice* device = nullptr;
  uint64_t offset = 0;
  uint64_t length = 0;

  // 0, -errno, or -ENODATA beyond the end.
  int Read(uint64_t at, void* data, size_t bytes) const;
};

}  // namespace snapbak
