// SPDX-License-Identifier: MIT
// A container file on the origin's own file system, made ready to be written
// through the device beneath that file system: no write to it may pass the
// driver that it serves. For that the file's bytes must stay where they are on
// the device, so the file is written in full, pinned (immutable), and its
// extents are taken from the file system and compared with the device.
#pragma once

#include <string>
#include <vector>

#include "extent.h"

namespace snapbak {

// The device beneath the file system.
struct DeviceBeneath {
  int fd;                // readable, O_DIRECT
  uint32_t sector_size;  // smallest unit of direct I/O
  uint64_t offset;       // where on it the file system's device begins, bytes
  uint64_t size;         // of the file system's device, bytes
};

struct PinnedFile {
  int error = 0;  // negative errno of the step that failed
  const char* step = "";
  // Why such a file cannot be used, in words that continue "it …"; else null.
  const char* unsuited = nullptr;
  // Bytes on the file system's device, in the order of the file, all of it.
  std::vector<Extent> extents;
};

// `file` is new, empty, open for reading and writing, and ours alone; `bytes`
// is a multiple of 4096. Whatever fails, Unpin() and unlink() take it away.
PinnedFile Pin(int file, uint64_t bytes, const DeviceBeneath& beneath);

// May be removed again. 0 or -errno.
int Unpin(int file);

// Removes a file that a killed process left pinned. 0: it was one, and is gone;
// -ENOENT: there is none; -EEXIST: there is something else; -EBUSY: a process
// that lives has it.
int RemoveLeftPinned(const std::string& path);

}  // namespace snapbak
