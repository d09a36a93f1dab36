// SPDX-License-Identifier: MIT
#include "file_device.h"

#include "../copy/file_io.h"

namespace snapbak {

int FileDevice::Read(uint64_t offset, void* data, size_t length) {
  return shut_down_ ? -ESHUTDOWN : ReadAll(fd_.get(), data, length, offset);
}

int SourceRange::Read(uint64_t at, void* data, size_t bytes) const {
  if (at > length || bytes > length - at) return -ENODATA;
  return device->Read(offset + at, data, bytes);
}

}  // namespace snapbak
