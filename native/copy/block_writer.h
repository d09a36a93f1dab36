// SPDX-License-Identifier: MIT
// The last step of every block, wherever it comes from: checksum, zero or not,
// target, `checksums`, done. One for each copier.
#pragma once

#include <cstdint>
#include <vector>

#include "copy_state.h"

namespace snapbak {

class BlockWriter {
 public:
  explicit BlockWriter(CopyState* state);

  // Blocks that are ours. Neighbours of one kind go to the target in one call.
  // 0: they are done; or the driver broke the session, and they are dropped.
  // Else the target failed for good, or the session stops; the blocks are not
  // done and nobody else has them.
  int Write(uint64_t first, uint64_t count, const uint8_t* data);
  // The same for blocks known to be zero.
  int WriteHole(uint64_t first, uint64_t count);

  // CRC32C of one block's bytes.
  uint32_t Checksum(uint64_t block, const uint8_t* data) const;

 private:
  template <typename Step>
  int Retrying(Step step);
  void ToClone(uint64_t first, uint64_t count, const uint8_t* data);
  int WriteChecksums(uint64_t first, uint64_t count);
  uint32_t ZeroChecksum(uint64_t block) const;

  CopyState* const state_;
  const uint32_t zero_block_crc_;
  const uint32_t zero_tail_crc_;  // of the last block
  std::vector<uint32_t> crcs_;
  std::vector<uint8_t> zero_;
};

}  // namespace snapbak
