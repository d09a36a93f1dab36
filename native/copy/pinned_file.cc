// SPDX-License-Identifier: MIT
#include "pinned_file.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "../driver/unique_fd.h"
#include "aligned_buffer.h"
#include "file_io.h"

namespace snapbak {
namespace {

// What tells our files from others; only root can set or remove it.
constexpr char kMark[] = "trusted.snapbak.container";
constexpr size_t kSector = 512;
constexpr size_t kPiece = 1 << 20;

// Every sector of the file says which it is, so that the comparison finds a
// mapping that is wrong, before anything is written by it.
class Stamp {
 public:
  int Open() {
    return getrandom(cookie_.data(), cookie_.size(), 0) == static_cast<ssize_t>(cookie_.size()) ? 0 : -EIO;
  }
  void Fill(uint8_t* data, size_t length, uint64_t offset) const {
    memset(data, 0, length);
    for (size_t at = 0; at < length; at += kSector) {
      const uint64_t here = offset + at;
      memcpy(data + at, cookie_.data(), cookie_.size());
      memcpy(data + at + cookie_.size(), &here, sizeof(here));
    }
  }

 private:
  std::array<uint8_t, 16> cookie_{};
};

int GetFlags(int file, long* flags) { return ioctl(file, FS_IOC_GETFLAGS, flags) == 0 ? 0 : -errno; }

int SetImmutable(int file, bool immutable) {
  long flags = 0;
  const int error = GetFlags(file, &flags);
  if (error != 0) return error;
  flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~static_cast<long>(FS_IMMUTABLE_FL);
  return ioctl(file, FS_IOC_SETFLAGS, &flags) == 0 ? 0 : -errno;
}

PinnedFile Failed(int error, const char* step) {
  PinnedFile result;
  result.error = error;
  result.step = step;
  return result;
}

PinnedFile Unsuited(const char* reason) {
  PinnedFile result;
  result.unsuited = reason;
  return result;
}

// Why the attributes that the file got from its folder or its mount forbid it; null if they do not.
const char* UnsuitedAttribute(long flags, uint32_t xflags) {
  if (flags & FS_JOURNAL_DATA_FL) {
    // the journal could put old bytes into their place at any time
    return "has its data written to the journal (chattr +j)";
  }
  if (flags & FS_COMPR_FL) return "is compressed";
  if (flags & FS_ENCRYPT_FL) return "is encrypted by its file system";
  if (xflags & FS_XFLAG_REALTIME) return "lies on a realtime device";
  return nullptr;
}

int Write(int file, uint64_t bytes, const Stamp& stamp) {
  std::vector<uint8_t> piece(kPiece);
  for (uint64_t at = 0; at < bytes; at += kPiece) {
    const size_t length = static_cast<size_t>(std::min<uint64_t>(kPiece, bytes - at));
    stamp.Fill(piece.data(), length, at);
    const int error = WriteAll(file, piece.data(), length, at);
    if (error != 0) return error;
  }
  return 0;
}

const char* UnsuitedExtent(uint32_t flags) {
  if (flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC)) return "has no fixed place on its device";
  if (flags & FIEMAP_EXTENT_SHARED) return "shares its blocks with other files";
  if (flags & FIEMAP_EXTENT_UNWRITTEN) return "has extents that are not written";
  if (flags & ~static_cast<uint32_t>(FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_MERGED)) {
    return "is not stored as plain blocks";
  }
  return nullptr;
}

// Asks the file system where [0, bytes) of the file lies.
PinnedFile Map(int file, uint64_t bytes) {
  constexpr uint32_t kBatch = 256;
  alignas(struct fiemap) uint8_t space[sizeof(struct fiemap) + kBatch * sizeof(struct fiemap_extent)];
  auto* map = reinterpret_cast<struct fiemap*>(space);
  PinnedFile result;
  for (uint64_t at = 0; at < bytes;) {
    memset(space, 0, sizeof(space));
    map->fm_start = at;
    map->fm_length = bytes - at;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = kBatch;
    if (ioctl(file, FS_IOC_FIEMAP, map) != 0) return Failed(-errno, "extents");
    if (map->fm_mapped_extents == 0) return Unsuited("has holes");
    for (uint32_t i = 0; i < map->fm_mapped_extents && at < bytes; i++) {
      const struct fiemap_extent& extent = map->fm_extents[i];
      const char* reason = UnsuitedExtent(extent.fe_flags);
      if (reason != nullptr) return Unsuited(reason);
      if (extent.fe_logical > at || extent.fe_logical + extent.fe_length <= at) return Unsuited("has holes");
      // the first of a batch may begin before what was asked for, the last end behind it
      const uint64_t skipped = at - extent.fe_logical;
      const uint64_t length = std::min<uint64_t>(extent.fe_length - skipped, bytes - at);
      result.extents.push_back({extent.fe_physical + skipped, length});
      at += length;
    }
  }
  return result;
}

// The first and the last sector of each extent must be on the device what they are in the file.
PinnedFile Compare(PinnedFile mapped, const DeviceBeneath& beneath, const Stamp& stamp) {
  const uint64_t sector = beneath.sector_size;
  AlignedBuffer found;
  if (found.Allocate(sector) != 0) return Failed(-ENOMEM, "compare");
  std::vector<uint8_t> wanted(sector);
  uint64_t in_file = 0;
  for (const Extent& extent : mapped.extents) {
    if (extent.length % sector != 0 || extent.offset % sector != 0)
      return Unsuited("is not made of whole sectors");
    if (extent.offset > beneath.size || extent.length > beneath.size - extent.offset) {
      return Unsuited("lies outside of its device");
    }
    for (const uint64_t at : {uint64_t{0}, extent.length - sector}) {
      const int error = ReadAll(beneath.fd, found.data(), sector, beneath.offset + extent.offset + at);
      if (error != 0) return Failed(error, "compare");
      stamp.Fill(wanted.data(), sector, in_file + at);
      if (memcmp(found.data(), wanted.data(), sector) != 0) {
        return Unsuited("is not where its file system says on the device");
      }
    }
    in_file += extent.length;
  }
  return mapped;
}

}  // namespace

PinnedFile Pin(int file, uint64_t bytes, const DeviceBeneath& beneath) {
  long flags = 0;
  struct fsxattr attributes = {};
  Stamp stamp;
  // held for as long as the descriptor is open: nobody takes the file for one that was left
  if (flock(file, LOCK_EX | LOCK_NB) != 0) return Failed(-errno, "lock");
  int error = GetFlags(file, &flags);
  if (error == 0 && ioctl(file, FS_IOC_FSGETXATTR, &attributes) != 0) error = -errno;
  if (error != 0) return Failed(error, "attributes");
  const char* reason = UnsuitedAttribute(flags, attributes.fsx_xflags);
  if (reason != nullptr) return Unsuited(reason);
  if (fsetxattr(file, kMark, "", 0, XATTR_CREATE) != 0) return Failed(-errno, "mark");
  error = stamp.Open();
  if (error == 0) error = -posix_fallocate(file, 0, static_cast<off_t>(bytes));
  if (error != 0) return Failed(error, "allocate");
  // Written, so that no first write to an extent changes metadata later; synced, so that neither data
  // nor allocation is still on its way through page cache or journal.
  error = Write(file, bytes, stamp);
  if (error == 0 && fsync(file) != 0) error = -errno;
  if (error != 0) return Failed(error, "write");
  (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);  // what is cached will not be what is on the device
  // Before the extents are asked for: from here on nobody can move, cut or remove the file.
  error = SetImmutable(file, true);
  if (error != 0) return Failed(error, "pin");
  PinnedFile mapped = Map(file, bytes);
  const bool usable = mapped.error == 0 && mapped.unsuited == nullptr;
  return usable ? Compare(std::move(mapped), beneath, stamp) : mapped;
}

int Unpin(int file) { return SetImmutable(file, false); }

int RemoveLeftPinned(const std::string& path) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.valid()) return errno == ENOENT ? -ENOENT : -EEXIST;
  struct stat st;
  if (fstat(file.get(), &st) != 0 || !S_ISREG(st.st_mode)) return -EEXIST;
  if (fgetxattr(file.get(), kMark, nullptr, 0) < 0) return -EEXIST;
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) return -EBUSY;
  const int error = Unpin(file.get());
  if (error != 0) return error;
  return unlink(path.c_str()) == 0 ? 0 : -errno;
}

}  // namespace snapbak
