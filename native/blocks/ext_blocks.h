// SPDX-License-Identifier: MIT
// The blocks that an ext2, ext3 or ext4 uses, by libext2fs.
#pragma once

#include <string>
#include <vector>

#include "../copy/extent.h"
#include "file_device.h"

namespace snapbak {

struct ExtBlocks {
  // Not empty: what is used cannot be told with certainty, and why. All else means nothing then.
  std::string doubt;
  // Used, in bytes of the range; they may overlap and touch. What lies behind the file system is among them.
  std::vector<Extent> extents;
  // The log had something to recover, and its copies of the bitmaps count too.
  bool live_journal = false;
};

// `frozen`: the file system was frozen at the instant that the source shows, so
// that an ext2, which has no journal, is whole on it while it is mounted.
ExtBlocks FindExtBlocks(const SourceRange& range, bool frozen);

}  // namespace snapbak
