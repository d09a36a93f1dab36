// SPDX-License-Identifier: MIT
#include "socket_io.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

namespace snapbak {

int ReceiveAll(int fd, void* data, size_t length) {
  auto* at = static_cast<uint8_t*>(data);
  while (length > 0) {
    const ssize_t n = recv(fd, at, length, MSG_WAITALL);
    if (n == 0) return -ESHUTDOWN;
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    at += n;
    length -= static_cast<size_t>(n);
  }
  return 0;
}

int SendAll(int fd, const void* head, size_t head_length, const void* body, size_t body_length) {
  iovec iov[2] = {{const_cast<void*>(head), head_length}, {const_cast<void*>(body), body_length}};
  msghdr message{};
  message.msg_iov = iov;
  message.msg_iovlen = 2;
  while (iov[0].iov_len + iov[1].iov_len > 0) {
    const ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    size_t done = static_cast<size_t>(n);
    for (iovec& part : iov) {
      const size_t taken = done < part.iov_len ? done : part.iov_len;
      part.iov_base = static_cast<uint8_t*>(part.iov_base) + taken;
      part.iov_len -= taken;
      done -= taken;
    }
  }
  return 0;
}

}  // namespace snapbak
