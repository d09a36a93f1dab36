// SPDX-License-Identifier: MIT
// One copy thread: takes the best job there is and does it, until stopped.
#pragma once

#include "aligned_buffer.h"
#include "sweep.h"

namespace snapbak {

class Copier {
 public:
  // Allocates what the thread needs; `buffer` outlives it.
  Copier(CopyState* state, AlignedBuffer* buffer);

  void Run();

 private:
  void Do(const Job& job);
  void ServeWanted(uint64_t block);
  void DrainSlot(const CapturedBlock& captured);
  void DrainPlace(const SpilledBlock& spilled);
  int ReadPlace(const SpilledBlock& spilled);

  CopyState* const state_;
  AlignedBuffer* const buffer_;
  BlockWriter writer_;
  Sweep sweep_;
};

}  // namespace snapbak
