// SPDX-License-Identifier: MIT
// What became of each block, for those who read the point-in-time view: is it
// in the target? Copiers set a bit a block, without a lock; readers look at it
// at any time, and long after the session. Private memory, never shared.
//
// A block is open from the start until it is settled, once and for all:
//   settled           done: the target has it
//   settled + absent  the target has nothing: it is invalid, or not in the list
// The second bitmap exists only where something is absent.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

#include "aligned_buffer.h"

namespace snapbak {

enum class Fate { kOpen, kDone, kInvalid, kUnlisted };

class BlockFates {
 public:
  // Before anything else; every page is present then, so that no copy faults. 0 or -ENOMEM.
  int Allocate(uint64_t nr_blocks);
  // The second bitmap; before the first SetUnlisted() or SetInvalid(). Idempotent. 0 or -ENOMEM.
  int AllocateAbsent();

  // The bytes lie in the target. Fully ordered: whoever sees the bit, sees the bytes.
  void SetDone(uint64_t first, uint64_t count);
  void SetUnlisted(uint64_t first, uint64_t count);
  void SetInvalid(uint64_t block);

  Fate Of(uint64_t block) const;
  // Where the run that begins at `first` with blocks of the same fate, kDone or kUnlisted, ends; at most
  // `end`.
  uint64_t RunEnd(uint64_t first, uint64_t end) const;

  // Two bits a block at the most.
  uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  bool IsInvalid(uint64_t block) const;

  uint64_t nr_blocks_ = 0;
  AlignedBuffer settled_memory_, absent_memory_;
  uint64_t* settled_ = nullptr;
  std::atomic<uint64_t*> absent_{nullptr};
  std::atomic<uint64_t> memory_bytes_{0};

  mutable std::mutex mutex_;              // guards the rest, and AllocateAbsent()
  std::map<uint64_t, uint64_t> invalid_;  // runs: first block, end
  std::atomic<bool> any_invalid_{false};
};

}  // namespace snapbak
