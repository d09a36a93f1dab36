// SPDX-License-Identifier: MIT
// Moves captured blocks from their slots to the second tiers while slots run short, so
// that writes need not wait for the target.
#pragma once

#include "copy_state.h"

namespace snapbak {

class Spiller {
 public:
  explicit Spiller(CopyState* state) : state_(state) {}

  // Until stopped. A tier that fails is given up, and the next one is taken.
  void Run();

 private:
  bool Put(const void* data, TierPlace* where);

  CopyState* const state_;
};

}  // namespace snapbak
