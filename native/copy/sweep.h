// SPDX-License-Identifier: MIT
// The library's half of the claim protocol: read first, claim after, and only
// what was still pending is ours. One for each copier.
#pragma once

#include <vector>

#include "aligned_buffer.h"
#include "block_writer.h"
#include "hole_finder.h"

namespace snapbak {

class Sweep {
 public:
  // `buffer` holds a whole run, `writer` takes what was claimed.
  Sweep(CopyState* state, AlignedBuffer* buffer, BlockWriter* writer);

  // Copies those of a run of blocks (at most max_run_blocks) that are still pending.
  void Copy(BlockRun run);

 private:
  // Where the run begins on the lower device, bytes.
  uint64_t OnLower(BlockRun run) const;
  int Read(BlockRun run);
  void Claim(BlockRun run);
  void CopyOneByOne(BlockRun run, int error);
  void WriteClaimed(BlockRun run, bool hole);

  CopyState* const state_;
  AlignedBuffer* const buffer_;
  BlockWriter* const writer_;
  HoleFinder holes_;
  std::vector<BlockRun> ours_;  // what the last Claim() took, ascending
};

}  // namespace snapbak
