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
  // The doubt is that it has no journal and was not unmounted: e2fsck can tell more.
  bool unclean = false;
  // Used, in bytes of the range; they may overlap and touch. What lies behind the file system is among them.
  std::vector<Extent> extents;
  // The log had something to recover, and its copies of the bitmaps count too.
  bool live_journal = false;
};

// `checked`: e2fsck found it consistent as it is, so that one without a journal
// is believed, though it does not say that it was unmounted.
ExtBlocks FindExtBlocks(const SourceRange& range, bool checked);

}  // namespace snapbak
