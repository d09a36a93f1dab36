// SPDX-License-Identifier: MIT
// What an ext2, ext3 or ext4 may have for its list of used blocks to be certain.
#pragma once

#include <cstdint>
#include <string>

#include "ext2_library.h"

namespace snapbak {

using RawSuper = ext2_super_block;  // as it is on the disk: little-endian

// Why a file system with these features is not understood; empty if it is.
std::string StrangeFeature(uint32_t compat, uint32_t incompat, uint32_t ro_compat);

// Whether the metadata of both lie in the same places.
bool SameLayout(const RawSuper& a, const RawSuper& b);

}  // namespace snapbak
