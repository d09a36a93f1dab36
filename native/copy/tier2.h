// SPDX-License-Identifier: MIT
// One place of the second tier: a preallocated file, a partition or an
// external device, cut into block-sized places. Places are reused as they
// drain. Thread-safe; the caller remembers which block lies in which place.
//
// It grows and shrinks while it is used. Shrinking has two steps: first no
// block is put beyond the new end any more; then, once the last block that was
// there has been drained, the caller is told and may give the space back.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "../driver/unique_fd.h"
#include "extent.h"

namespace snapbak {

class Tier2 {
 public:
  // 0: nothing is in use beyond the new end, and nothing will be. -ECANCELED:
  // another resize came after it, or the session ended. -EIO: it is lost.
  // -EOPNOTSUPP: it has several areas. -ENOMEM.
  using Resized = std::function<void(int error)>;

  // `fd` is open for reading and writing, with O_DIRECT where `direct`. The
  // places lie in `areas` of it, which belong to us and do not overlap: one
  // area for a whole file or device; several for the extents of a file that
  // is written through the device beneath its file system. What is left of an
  // area after its last whole place is not touched.
  Tier2(UniqueFd fd, bool direct, const std::vector<Extent>& areas, uint32_t block_size);

  // Places before the end that was asked for last.
  uint32_t total() const { return total_; }
  // All that are taken, those beyond that end, too.
  uint32_t used() const { return used_; }
  bool HasRoom() const { return !lost_ && used_ - beyond_ < total_; }
  // Memory that it holds: a bit for each place that there ever was, and 16 bytes an area.
  uint64_t memory_bytes() const;

  // Takes a free place and writes `block_size` bytes there (aligned to 4 KiB
  // in memory). 0, -ENOSPC with all places taken, or the device's -errno (the
  // place is free again).
  int Put(const void* data, uint32_t* place);
  // Reads a place into `data` (aligned to 4 KiB). It stays taken.
  int Get(uint32_t place, void* data);
  void Free(uint32_t place);

  // It failed: nothing should be put here any more. What is here may still be read.
  // False: somebody said so before.
  bool GiveUp() { return !lost_.exchange(true); }
  bool lost() const { return lost_; }

  // Whether the block in this place should be drained before others.
  bool Leaving(uint32_t place) const { return lost_ || place >= total_; }

  // Moves the end. Room up to a later one is there already; what is beyond an
  // earlier one stays there until `done`, which is called once, on this thread
  // or on one that calls Free() or Close(), with no lock held.
  void Resize(uint32_t places, Resized done);
  // Nobody frees places any more: a resize that waits for it is cancelled.
  void Close();

 private:
  struct Area {
    uint32_t first;   // place
    uint64_t offset;  // of that place, bytes
  };

  uint64_t OffsetOf(uint32_t place) const;
  bool Take(uint32_t* place);
  uint64_t FindFree(uint64_t from, uint64_t to) const;
  uint32_t CountTaken(uint64_t from) const;

  UniqueFd fd_;
  bool direct_;
  uint32_t block_size_;
  std::vector<Area> areas_;  // ascending by place

  // Written under mutex_, so that they and the bits agree. Read without it by those who decide what to do
  // next: what they do is then checked under it, or harmless.
  std::atomic<uint32_t> total_{0};
  std::atomic<uint32_t> used_{0};
  std::atomic<uint32_t> beyond_{0};  // taken ones from total_ on
  std::atomic<bool> lost_{false};

  mutable std::mutex mutex_;
  std::vector<uint64_t> taken_;  // a bit a place
  uint32_t next_ = 0;            // where the search for a free place goes on: places are filled in order
  Resized resized_;              // waits for beyond_ to become 0
  bool closed_ = false;
};

}  // namespace snapbak
