// SPDX-License-Identifier: MIT
// Moves captured blocks from their slots to tier 2 while slots run short, so
// that writes need not wait for the target.
#pragma once

#include "copy_state.h"

namespace snapbak {

class Spiller {
 public:
  explicit Spiller(CopyState* state) : state_(state) {}

  // Until stopped, or until tier 2 fails and is given up.
  void Run();

 private:
  CopyState* const state_;
};

}  // namespace snapbak
