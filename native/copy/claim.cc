// SPDX-License-Identifier: MIT
// Clears pending bits for the library, a word at a time.
#include "claim.h"

#include <algorithm>

namespace snapbak {

uint64_t ClaimPending(__u64* bitmap, BlockRun run, std::vector<BlockRun>* ours) {
  const uint64_t end = run.first + run.count;
  uint64_t claimed = 0;
  for (uint64_t at = run.first; at < end; at += SNAPBAK_WORD_BITS - at % SNAPBAK_WORD_BITS) {
    const uint64_t word = at - at % SNAPBAK_WORD_BITS;
    uint64_t bits = snapbak_bitmap_claim(bitmap, at, end - at);
    while (bits != 0) {
      const unsigned low = snapbak_lowest_bit(bits);
      const uint64_t rest = ~(bits >> low);
      const unsigned ones = rest != 0 ? snapbak_lowest_bit(rest) : SNAPBAK_WORD_BITS;
      if (!ours->empty() && ours->back().first + ours->back().count == word + low) {
        ours->back().count += ones;
      } else {
        ours->push_back({word + low, ones});
      }
      claimed += ones;
      bits &= ~snapbak_bitmap_mask(low, ones);
    }
  }
  return claimed;
}

BlockRun BlocksInside(const Extent& extent, uint32_t block_size, uint64_t device_size) {
  if (extent.offset >= device_size) return {0, 0};
  const uint64_t length = std::min(extent.length, device_size - extent.offset);
  const uint64_t end_byte = extent.offset + length;
  const uint64_t first = extent.offset / block_size + (extent.offset % block_size != 0);
  const uint64_t end = end_byte / block_size + (end_byte == device_size && end_byte % block_size != 0);
  return end > first ? BlockRun{first, end - first} : BlockRun{0, 0};
}

}  // namespace snapbak
