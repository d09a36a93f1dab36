// SPDX-License-Identifier: MIT
// Every copy of a block that recovery may take from the log of an ext3 or ext4.
//
// The walk is that of recovery's first pass (do_one_pass, fs/jbd2/recovery.c of
// Linux and e2fsck/recovery.c, which are one code), but for what only makes
// recovery take less: checksums, commit blocks that are missing at the end,
// revoke records. So what it finds is a superset of what any recovery writes.
// A log that holds what those do not know is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace snapbak {

struct ExtJournal {
  uint32_t block_size = 0;
  // How many blocks the journal's inode has.
  uint64_t blocks = 0;
  // Block `index` of the journal; 0 or -errno.
  std::function<int(uint64_t index, uint8_t* data)> read;
};

struct ExtJournalState {
  // There is something to recover.
  bool live = false;
  // Not empty: what the log holds is not certain, in words that continue "its journal …".
  std::string doubt;
};

// Looks at the journal's own superblock. 0 or -errno.
int ReadExtJournalState(const ExtJournal& journal, ExtJournalState* state);

// What is told of a live log, in its order.
struct ExtJournalVisitor {
  // Is a copy of this block of interest?
  std::function<bool(uint64_t home)> wants;
  // One that is.
  std::function<void(uint64_t home, const uint8_t* data)> copy;
  // What was told since the last call was written as a whole. The log may end with a transaction of which
  // only the descriptors are there, and something older where its copies will be.
  std::function<void()> committed;
};

// Sets `state->doubt` where the log is not understood. 0 or -errno.
int WalkExtJournal(const ExtJournal& journal, const ExtJournalVisitor& visitor, ExtJournalState* state);

}  // namespace snapbak
