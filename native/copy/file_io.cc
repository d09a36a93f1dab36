// SPDX-License-Identifier: MIT
// pread and pwrite to the last byte.
#include "file_io.h"

#include <unistd.h>

#include <cerrno>

namespace snapbak {

int ReadAtLeast(int fd, void* data, size_t length, size_t needed, uint64_t offset) {
  size_t done = 0;
  while (done < needed) {
    const ssize_t n = pread(fd, static_cast<uint8_t*>(data) + done, length - done, offset + done);
    if (n == 0) return -ENODATA;
    if (n > 0) {
      done += n;
    } else if (errno != EINTR) {
      return -errno;
    }
  }
  return 0;
}

int ReadAll(int fd, void* data, size_t length, uint64_t offset) {
  return ReadAtLeast(fd, data, length, length, offset);
}

int WriteAll(int fd, const void* data, size_t length, uint64_t offset) {
  size_t done = 0;
  while (done < length) {
    const ssize_t n = pwrite(fd, static_cast<const uint8_t*>(data) + done, length - done, offset + done);
    if (n > 0) {
      done += n;
    } else if (n == 0) {
      return -EIO;  // a device that takes nothing and names no reason
    } else if (errno != EINTR) {
      return -errno;
    }
  }
  return 0;
}

}  // namespace snapbak
