// SPDX-License-Identifier: MIT
#include "lower_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace snapbak {

namespace {

constexpr std::chrono::milliseconds kLockPause{20};

bool NotSupported(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == EINVAL || error == ENOTTY;
}

}  // namespace

int LowerDevice::Open(const std::string& path, bool read_only, LowerDevice* out,
                      std::chrono::milliseconds patience) {
  UniqueFd fd(open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  return Adopt(std::move(fd), path, read_only, out, patience);
}

int LowerDevice::Adopt(UniqueFd fd, const std::string& path, bool read_only, LowerDevice* out,
                       std::chrono::milliseconds patience) {
  LowerDevice device;
  device.path_ = path;
  device.fd_ = std::move(fd);
  struct stat st;
  if (fstat(device.fd_.get(), &st) != 0) return -errno;
  if (S_ISBLK(st.st_mode)) {
    uint64_t bytes = 0;
    int sector = 512;
    if (ioctl(device.fd_.get(), BLKGETSIZE64, &bytes) != 0) return -errno;
    if (ioctl(device.fd_.get(), BLKSSZGET, &sector) != 0) return -errno;
    device.size_ = bytes;
    device.sector_size_ = static_cast<uint32_t>(sector);
    device.is_block_device_ = true;
    device.device_ = st.st_rdev;
  } else if (S_ISREG(st.st_mode)) {
    device.size_ = static_cast<uint64_t>(st.st_size);
    device.inode_ = st.st_ino;
    device.fs_device_ = st.st_dev;
  } else {
    return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
  }
  if (device.size_ == 0) return -ENODATA;
  // Two drivers over one image would each miss the other's writes.
  const auto until = std::chrono::steady_clock::now() + patience;
  while (flock(device.fd_.get(), (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return -errno;
    if (!device.is_block_device_ || std::chrono::steady_clock::now() >= until) return -EBUSY;
    std::this_thread::sleep_for(kLockPause);
  }
  *out = std::move(device);
  return 0;
}

int LowerDevice::Read(void* data, size_t length, uint64_t offset) const {
  auto* at = static_cast<uint8_t*>(data);
  while (length > 0) {
    const ssize_t n = pread(fd_.get(), at, length, static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (n == 0) return -EIO;  // the image was truncated under us
    at += n;
    length -= static_cast<size_t>(n);
    offset += static_cast<uint64_t>(n);
  }
  return 0;
}

int LowerDevice::ReadV(struct iovec* iov, int count, uint64_t offset) const {
  while (count > 0) {
    const ssize_t n = preadv(fd_.get(), iov, count, static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (n == 0) return -EIO;
    offset += static_cast<uint64_t>(n);
    size_t done = static_cast<size_t>(n);
    while (count > 0 && done >= iov->iov_len) {
      done -= iov->iov_len;
      ++iov;
      --count;
    }
    if (count > 0) {
      iov->iov_base = static_cast<uint8_t*>(iov->iov_base) + done;
      iov->iov_len -= done;
    }
  }
  return 0;
}

int LowerDevice::Write(const void* data, size_t length, uint64_t offset, bool fua) {
  const auto* at = static_cast<const uint8_t*>(data);
  while (length > 0) {
    ssize_t n;
    if (fua) {
      struct iovec iov = {const_cast<uint8_t*>(at), length};
      n = pwritev2(fd_.get(), &iov, 1, static_cast<off_t>(offset), RWF_DSYNC);
    } else {
      n = pwrite(fd_.get(), at, length, static_cast<off_t>(offset));
    }
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (n == 0) return -EIO;
    at += n;
    length -= static_cast<size_t>(n);
    offset += static_cast<uint64_t>(n);
  }
  return 0;
}

int LowerDevice::ZeroByWriting(uint64_t offset, uint64_t length) {
  const size_t chunk = 256 * 1024;
  const std::vector<uint8_t> zeroes(static_cast<size_t>(std::min<uint64_t>(chunk, length)), 0);
  while (length > 0) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(chunk, length));
    const int ret = Write(zeroes.data(), n, offset, false);
    if (ret != 0) return ret;
    offset += n;
    length -= n;
  }
  return 0;
}

int LowerDevice::WriteZeroes(uint64_t offset, uint64_t length, bool may_trim, bool fast) {
  if (length == 0) return 0;
  // A block device zeroes whole sectors; the ends are written.
  if (is_block_device_) {
    const uint64_t unit = sector_size_;
    const uint64_t begin = (offset + unit - 1) / unit * unit;
    const uint64_t end = (offset + length) / unit * unit;
    if (begin >= end) return fast ? -EOPNOTSUPP : ZeroByWriting(offset, length);
    if (begin != offset || end != offset + length) {
      if (fast) return -EOPNOTSUPP;
      int ret = ZeroByWriting(offset, begin - offset);
      if (ret == 0) ret = ZeroByWriting(end, offset + length - end);
      if (ret != 0) return ret;
      offset = begin;
      length = end - begin;
    }
  }
  if (may_trim && fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                            static_cast<off_t>(length)) == 0) {
    return 0;
  }
  if (fallocate(fd_.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length)) == 0) {
    return 0;
  }
  if (!NotSupported(errno)) return -errno;
  // Punching also zeroes; where holes are not asked for it may cost space later,
  // so it comes after the range zeroing that keeps the blocks.
  if (fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length)) == 0) {
    if (may_trim || fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0)
      return 0;
    return errno == ENOSPC ? -ENOSPC : 0;
  }
  return fast ? -EOPNOTSUPP : ZeroByWriting(offset, length);
}

int LowerDevice::Discard(uint64_t offset, uint64_t length) {
  if (is_block_device_) {
    const uint64_t unit = sector_size_;
    const uint64_t begin = (offset + unit - 1) / unit * unit;
    const uint64_t end = (offset + length) / unit * unit;
    if (begin >= end) return 0;
    uint64_t range[2] = {begin, end - begin};
    if (ioctl(fd_.get(), BLKDISCARD, range) == 0 || NotSupported(errno)) return 0;
    return -errno;
  }
  if (fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length)) == 0 ||
      NotSupported(errno)) {
    return 0;
  }
  return -errno;
}

int LowerDevice::Flush() { return fdatasync(fd_.get()) == 0 ? 0 : -errno; }

int LowerDevice::Extents(uint64_t offset, uint64_t length,
                         const std::function<int(uint64_t, uint64_t, bool)>& each) const {
  const uint64_t end = offset + length;
  if (is_block_device_) return each(offset, length, false);
  // SEEK_DATA and SEEK_HOLE move the position of a shared description; nobody uses it otherwise.
  while (offset < end) {
    uint64_t data;
    off_t at = lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
    if (at < 0) {
      if (errno != ENXIO) return each(offset, end - offset, false);
      data = end;
    } else {
      data = std::min<uint64_t>(static_cast<uint64_t>(at), end);
    }
    if (data > offset) {
      const int ret = each(offset, data - offset, true);
      if (ret != 0) return ret;
    }
    if (data >= end) break;
    at = lseek(fd_.get(), static_cast<off_t>(data), SEEK_HOLE);
    const uint64_t hole = at < 0 ? end : std::min<uint64_t>(static_cast<uint64_t>(at), end);
    if (hole > data) {
      const int ret = each(data, hole - data, false);
      if (ret != 0) return ret;
    }
    offset = std::max(hole, data + 1);
  }
  return 0;
}

void LowerDevice::Unlock() { flock(fd_.get(), LOCK_UN); }

int LowerDevice::OpenForSweep(UniqueFd* out) const {
  // By way of our own descriptor: the path may mean another file by now.
  const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
  UniqueFd fd(open(self.c_str(), O_RDONLY | O_CLOEXEC | (is_block_device_ ? O_DIRECT : 0)));
  if (!fd.valid()) return -errno;
  *out = std::move(fd);
  return 0;
}

}  // namespace snapbak
