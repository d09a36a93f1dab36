// SPDX-License-Identifier: MIT
// What libblkid finds in a part of a file or device: a file system, a partition table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

}  // namespace snapbak
