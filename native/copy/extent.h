// SPDX-License-Identifier: MIT
// A run of bytes of a file or a device.
#pragma once

#include <cstdint>

namespace snapbak {

struct Extent {
  uint64_t offset;
  uint64_t length;
};

}  // namespace snapbak
