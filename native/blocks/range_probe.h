// SPDX-License-Identifier: MIT
// What libblkid finds in a part of a file or device: a file system, a partition table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "file_device.h"

namespace snapbak {

struct FoundPartition {
  int number = 0;
  uint64_t offset = 0;  // bytes from the beginning of the range
  uint64_t length = 0;
  bool extended = false;
  int type = 0;  // of a DOS table
};

struct RangeProbe {
  std::string type;      // `ext4`; empty: none
  std::string usage;     // `filesystem`
  std::string table;     // `gpt`, `dos`, …; empty: none
  bool several = false;  // kinds that exclude each other
  std::vector<FoundPartition> partitions;
};

// 0 or -errno.
int ProbeRangeOf(int fd, uint64_t offset, uint64_t length, RangeProbe* found);

// The same of a device that has no descriptor: libblkid is shown a file in memory with the
// first and the last 4 MiB, where all signatures lie. Logical partitions (DOS) are found by
// links in the midst, so `partitions` may lack some where one is `extended`.
int ProbeEndsOf(const SourceRange& range, RangeProbe* found);

}  // namespace snapbak
