// SPDX-License-Identifier: MIT
// The target's end of the copy: plain writes, and the cheapest way to make a
// range read as zeroes that the file or the device has.
#include "file_target.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "file_io.h"

namespace snapbak {
namespace {

constexpr uint64_t kSector = 512;
constexpr size_t kZeroBytes = 64 * 1024;
alignas(4096) const uint8_t kZeroes[kZeroBytes] = {};

int WriteZeroBytes(int fd, uint64_t offset, uint64_t length) {
  while (length > 0) {
    const size_t n = std::min<uint64_t>(length, kZeroBytes);
    const int error = WriteAll(fd, kZeroes, n, offset);
    if (error != 0) return error;
    offset += n, length -= n;
  }
  return 0;
}

// Errors that say "not in this way" and not "not at all".
bool Unsupported(int error) {
  return error == -EOPNOTSUPP || error == -ENOTTY || error == -EINVAL || error == -ENOSYS ||
         error == -ENODEV || error == -EPERM;
}

int Allocate(int fd, int mode, uint64_t offset, uint64_t length) {
  int result;
  do {
    result = fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : -errno;
}

int ZeroDevice(int fd, uint64_t offset, uint64_t length) {
  if (offset % kSector != 0 || length % kSector != 0) return -EINVAL;
  uint64_t range[2] = {offset, length};
  return ioctl(fd, BLKZEROOUT, range) == 0 ? 0 : -errno;
}

}  // namespace

int FileTarget::Write(uint64_t offset, const void* data, size_t length) {
  return WriteAll(fd_.get(), data, length, offset);
}

int FileTarget::WriteZeroes(uint64_t offset, uint64_t length) {
  if (fresh_ || length == 0) return 0;

  struct stat st;
  if (fstat(fd_.get(), &st) != 0) return -errno;
  int error = -EOPNOTSUPP;
  if (S_ISBLK(st.st_mode)) {
    error = ZeroDevice(fd_.get(), offset, length);
  } else if (S_ISREG(st.st_mode)) {
    error = Allocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (Unsupported(error)) {
      error = Allocate(fd_.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
    }
  }
  return Unsupported(error) ? WriteZeroBytes(fd_.get(), offset, length) : error;
}

bool FileTarget::readable() const {
  const int flags = fcntl(fd_.get(), F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}

int FileTarget::Read(uint64_t offset, void* data, size_t length, const std::atomic<bool>&) {
  const int error = ReadAll(fd_.get(), data, length, offset);
  return error == -ENODATA ? -EIO : error;
}

int FileTarget::Flush() { return fsync(fd_.get()) == 0 ? 0 : -errno; }

}  // namespace snapbak
