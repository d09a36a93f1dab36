// SPDX-License-Identifier: MIT
// Opens a block device by its number: the kernel and the library name devices
// to each other by number, but only a node in /dev can be opened.
#pragma once

#include <cstdint>
#include <string>

#include "unique_fd.h"

namespace snapbak {

// Where nodes are looked for; tests have folders of their own.
struct NodePlaces {
  std::string sys_dev_block = "/sys/dev/block";
  std::string dev = "/dev";
};

// Opens the block device `device` (a number as in st_rdev) with `flags` of
// open(). 0 or -errno; -ENXIO: the kernel has no such device, or its node is
// missing or is another device's.
int OpenBlockNode(uint64_t device, int flags, UniqueFd* out, const NodePlaces& places = {});

}  // namespace snapbak
