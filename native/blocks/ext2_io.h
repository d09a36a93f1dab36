// SPDX-License-Identifier: MIT
// How libext2fs reads a source of ours: an io_manager that refuses to write.
#pragma once

#include <string>

#include "ext2_library.h"
#include "file_device.h"

namespace snapbak {

// Outlives every file system that was opened by it.
class Ext2Source {
 public:
  explicit Ext2Source(SourceRange range) : range_(range) {}

  static io_manager Manager();
  // What Manager() takes for the name of a device: which source it is.
  std::string Name() const;

  // Bytes of the range, for libext2fs and for who reads past it.
  int Read(uint64_t at, void* data, size_t bytes);
  // The first error of a read, or 0: the library's own codes do not say.
  int error() const { return error_; }

 private:
  const SourceRange range_;
  int error_ = 0;
};

}  // namespace snapbak
