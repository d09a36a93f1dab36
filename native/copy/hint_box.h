// SPDX-License-Identifier: MIT
// Hints of other processes on their way from the pump to whoever orders the
// sweep: the newest so many, however long nobody takes them.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "../../kernel-module/include/uapi/linux/snapbak.h"
#include "extent.h"

namespace snapbak {

class HintBox {
 public:
  static constexpr size_t kMost = 256;

  explicit HintBox(uint64_t origin_size) : origin_size_(origin_size) {}

  // The oldest comes first; what does not lie inside the origin is left out.
  // True: there is something to take, and nobody was told yet.
  bool Put(const snapbak_extent* hints, uint32_t count);

  // All that is there, the oldest first.
  std::vector<Extent> Take();

 private:
  bool Inside(const snapbak_extent& hint) const;

  const uint64_t origin_size_;
  std::mutex mutex_;
  std::deque<Extent> hints_;  // guarded by mutex_
};

}  // namespace snapbak
