// SPDX-License-Identifier: MIT
// Hints on their way from the pump to whoever orders the sweep.
#include "hint_box.h"

namespace snapbak {

bool HintBox::Put(const snapbak_extent* hints, uint32_t count) {
  std::lock_guard lock(mutex_);
  const bool untold = hints_.empty();
  for (uint32_t i = 0; i < count; i++) {
    if (!Inside(hints[i])) continue;
    if (hints_.size() == kMost) hints_.pop_front();
    hints_.push_back({hints[i].offset, hints[i].length});
  }
  return untold && !hints_.empty();
}

std::vector<Extent> HintBox::Take() {
  std::lock_guard lock(mutex_);
  std::vector<Extent> taken(hints_.begin(), hints_.end());
  hints_.clear();
  return taken;
}

bool HintBox::Inside(const snapbak_extent& hint) const {
  return hint.length > 0 && hint.offset < origin_size_ && hint.length <= origin_size_ - hint.offset;
}

}  // namespace snapbak
