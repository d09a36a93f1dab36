// SPDX-License-Identifier: MIT
// Clears pending bits for the library, whose are the blocks then: for the sweep
// after it has read them, for unlisting without.
#pragma once

#include <vector>

#include "work_queue.h"

namespace snapbak {

// Takes those blocks of a run that are still pending, and appends them to
// `ours`, ascending, neighbours joined. Returns how many. Kick afterwards.
uint64_t ClaimPending(__u64* bitmap, BlockRun run, std::vector<BlockRun>* ours);

// The blocks that lie inside an extent as a whole; the last block of the device ends with it.
BlockRun BlocksInside(const Extent& extent, uint32_t block_size, uint64_t device_size);

}  // namespace snapbak
