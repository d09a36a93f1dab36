// SPDX-License-Identifier: MIT
// One bit a block, read by anybody at any time; whoever sees a bit set also sees
// what was done before it was set.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace snapbak {

class BlockBits {
 public:
  explicit BlockBits(uint64_t blocks) : blocks_(blocks), words_((blocks + 63) / 64) {}

  uint64_t blocks() const { return blocks_; }
  uint64_t words() const { return words_.size(); }
  uint64_t word(uint64_t index) const { return words_[index].load(std::memory_order_acquire); }

  bool Get(uint64_t block) const { return (word(block / 64) >> (block % 64) & 1) != 0; }

  // Sets the bits of `mask`; gives those that were not set before.
  uint64_t SetWord(uint64_t index, uint64_t mask) {
    return mask & ~words_[index].fetch_or(mask, std::memory_order_acq_rel);
  }

  // The bits of [first, first + count) that lie in the word `index`.
  static uint64_t Mask(uint64_t index, uint64_t first, uint64_t count) {
    const uint64_t from = index * 64, end = first + count;
    uint64_t mask = ~uint64_t{0};
    if (first > from) mask &= ~uint64_t{0} << (first - from);
    if (end < from + 64) mask &= ~(~uint64_t{0} << (end - from));
    return mask;
  }

  // Sets a run; gives how many were not set before.
  uint64_t Set(uint64_t first, uint64_t count) {
    uint64_t fresh = 0;
    for (uint64_t w = first / 64; count > 0 && w <= (first + count - 1) / 64; ++w) {
      fresh += __builtin_popcountll(SetWord(w, Mask(w, first, count)));
    }
    return fresh;
  }

  void Clear(uint64_t block) {
    words_[block / 64].fetch_and(~(uint64_t{1} << (block % 64)), std::memory_order_acq_rel);
  }

  // The length of the run from `first` on, at most `max` and to the end, whose bits are all as `first`'s: as
  // that is now, which need not be what Get() has just said of a bit that was not set.
  uint64_t RunLength(uint64_t first, uint64_t max) const {
    const bool set = Get(first);
    uint64_t end = first + 1;
    const uint64_t limit = max < blocks_ - first ? first + max : blocks_;
    while (end < limit) {
      const uint64_t bits = set ? word(end / 64) : ~word(end / 64);
      const uint64_t rest = ~(bits >> (end % 64));  // its lowest set bit is the end of the run
      const uint64_t same = rest == 0 ? 64 : __builtin_ctzll(rest);
      const uint64_t in_word = 64 - end % 64;
      if (same < in_word) return (end + same < limit ? end + same : limit) - first;
      end += in_word;
    }
    return limit - first;
  }

  // The first block from `from` on whose bit is not set; blocks() if there is none.
  uint64_t NextClear(uint64_t from) const {
    for (uint64_t w = from / 64; w < words_.size(); ++w) {
      uint64_t clear = ~word(w);
      if (w == from / 64) clear &= ~uint64_t{0} << (from % 64);
      if (clear == 0) continue;
      const uint64_t block = w * 64 + __builtin_ctzll(clear);
      return block < blocks_ ? block : blocks_;
    }
    return blocks_;
  }

 private:
  const uint64_t blocks_;
  std::vector<std::atomic<uint64_t>> words_;
};

}  // namespace snapbak
