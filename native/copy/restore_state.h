// SPDX-License-Identifier: MIT
// Which blocks of a restore on demand are there, so that it can go on after a
// crash: a file of
//
//   4 KiB   text of lib/restore/restore-state.ts: what is restored where
//   4 KiB   the boot in which the second bitmap was written
//   bitmap  blocks that are there durably
//   bitmap  blocks that are there as long as this boot lasts
//
// A block that is in neither is brought from the backup again, and what stood
// there is overwritten. So a write of an application must not be acknowledged
// before its block is in one of them:
//
// - A process may be killed at any moment. What it wrote lives on in the page
//   cache, the destination's as well as this file's: the second bitmap is
//   written right after the data, before the write is acknowledged. A block's
//   bit is in the file before anybody sees it in memory.
// - Power may go. Then the page cache is lost, in any order, and the second
//   bitmap says nothing: it counts only for the boot whose number stands with
//   it. The first is written after the data were made durable (Sync), for
//   blocks that were in the second before that began. A flush is a Sync, so
//   what an application knows to be durable is in the first.
//
// Bits are only ever set. A bitmap that was written in part is a bitmap with
// fewer bits, which is right, too.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "../driver/unique_fd.h"
#include "block_bits.h"

namespace snapbak {

class RestoreState {
 public:
  static constexpr uint64_t kTextBytes = 4096;
  // Bytes of the file.
  static uint64_t FileBytes(uint64_t blocks);

  RestoreState(UniqueFd file, uint64_t blocks);

  // Reads what the file says; a new one says nothing. Blocks found are set in
  // `here`, and known to be durable after the next Sync. `boot` names this boot.
  // 0 or -errno.
  int Load(const std::string& boot, BlockBits* here);

  // Blocks that need no restore: in no bitmap, and never to be waited for. Before Load.
  void Assume(uint64_t first, uint64_t count, BlockBits* here);

  // The blocks are at their place: in the file, then in `here`, which holds all
  // that was ever loaded or added. Any thread. `*fresh`: how many were not there before.
  int Add(uint64_t first, uint64_t count, BlockBits* here, uint64_t* fresh);

  // Makes data durable by `flush`, then the bits of all blocks that were added
  // before. One at a time; a caller waits for the one under way and then does
  // its own, unless there is nothing to do but flush. 0 or -errno: after an
  // error of `flush` nobody knows what was lost, so what is not durable yet is
  // taken back from the file (not from memory) and every later Sync fails.
  int Sync(const std::function<int()>& flush);

  // A durable write, `write`, of blocks that are durable, besides Sync: any number at a time. The kernel
  // tells of an error of its writeback once, to whichever of them comes first: an error of `write` is one
  // of a flush. What `write` gives.
  int WriteDurably(const std::function<int()>& write);

  // All blocks of the run are there durably.
  bool IsDurable(uint64_t first, uint64_t count) const;
  // Blocks were added since the last Sync.
  bool dirty() const;

 private:
  struct Run {
    uint64_t first, count;
  };

  uint64_t DurableAt() const { return 2 * kTextBytes; }
  uint64_t VolatileAt() const;
  int WriteBoot(const std::string& boot);
  void Lose();
  void Remember(uint64_t first, uint64_t count);
  // Words of a bitmap with the bits of `bits`, and of the run itself.
  int WriteWords(uint64_t at, const BlockBits& bits, uint64_t first, uint64_t count);

  const UniqueFd file_;
  std::mutex sync_mutex_;     // around Sync and `written_`; taken before mutex_
  BlockBits written_;         // the first bitmap of the file as it was written last
  BlockBits durable_;         // what of it is known to be on the disk
  mutable std::mutex mutex_;  // guards all below, and the second bitmap of the file
  std::vector<Run> added_;    // since the last Sync
  bool lost_ = false;
  std::condition_variable ended_;
  unsigned writing_[2] = {0, 0};  // durable writes that began before the flush under way ended, and after
  unsigned round_ = 0;            // the index of those that begin now
};

}  // namespace snapbak
