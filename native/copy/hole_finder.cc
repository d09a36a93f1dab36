// SPDX-License-Identifier: MIT
// Asks the file system for the holes of a sparse file.
#include "hole_finder.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

namespace snapbak {

HoleFinder::HoleFinder(int fd) : fd_(-1) {
  struct stat st;
  struct statfs fs;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || fstatfs(fd, &fs) != 0) return;
  switch (static_cast<unsigned long>(fs.f_type)) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
      fd_ = fd;
  }
}

bool HoleFinder::IsHole(uint64_t offset, uint64_t length) {
  if (fd_ < 0) return false;
  const uint64_t end = offset + length;
  if (offset >= hole_begin_ && offset < hole_end_) return end <= hole_end_;
  if (offset >= data_begin_ && offset < data_end_) return false;

  const off_t data = lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) {
    struct stat st;
    // ENXIO: no data up to the end of the file; beyond it nothing may be assumed
    if (errno != ENXIO || fstat(fd_, &st) != 0) return false;
    hole_begin_ = offset;
    hole_end_ = static_cast<uint64_t>(st.st_size);
  } else if (static_cast<uint64_t>(data) > offset) {
    hole_begin_ = offset;
    hole_end_ = static_cast<uint64_t>(data);
  } else {
    const off_t hole = lseek(fd_, data, SEEK_HOLE);
    data_begin_ = offset;
    data_end_ = hole < 0 ? end : static_cast<uint64_t>(hole);
    return false;
  }
  return offset < hole_end_ && end <= hole_end_;
}

}  // namespace snapbak
