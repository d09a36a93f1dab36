// SPDX-License-Identifier: MIT
#include "wake.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace snapbak {

int MakeWakePair(UniqueFd* ours, UniqueFd* theirs) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return -errno;
  ours->Reset(fds[0]);
  theirs->Reset(fds[1]);
  return 0;
}

bool IsWakeEnd(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

void Wake(int fd) {
  // A full buffer (EAGAIN) means that a wake-up waits there already; of a side
  // that is gone its control connection tells.
  static_cast<void>(send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

bool TakeWakes(int fd) {
  char bytes[4096];
  const ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

}  // namespace snapbak
