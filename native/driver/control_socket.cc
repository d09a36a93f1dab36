// SPDX-License-Identifier: MIT
#include "control_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

namespace snapbak {

namespace {

// How long another server may take between its look at the path and its bind.
constexpr auto kLockTimeout = std::chrono::seconds(5);

int MakeAddress(const std::string& path, struct sockaddr_un* address) {
  if (path.empty()) return -EINVAL;
  if (path.size() >= sizeof(address->sun_path)) return -ENAMETOOLONG;
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path.c_str(), path.size() + 1);
  return 0;
}

// Locks the directory of `path`, so that of two servers that find the same
// dead socket only one replaces it. Held for a few system calls only.
int LockDirectory(const std::string& path, UniqueFd* out) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return -errno;
  const auto deadline = std::chrono::steady_clock::now() + kLockTimeout;
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return -errno;
    // flock has no time limit of its own, and the holder may be anybody
    if (std::chrono::steady_clock::now() >= deadline) return -EBUSY;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  *out = std::move(fd);
  return 0;
}

// Makes `path` free for bind(), or says why it is not.
int RemoveIfDead(const std::string& path, const struct sockaddr_un& address) {
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) return errno == ENOENT ? 0 : -errno;
  if (!S_ISSOCK(st.st_mode)) return -EEXIST;
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return -errno;
  if (connect(probe.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)) == 0) {
    return -EADDRINUSE;
  }
  // EAGAIN is a live server with a full backlog, EACCES another user's, EPROTOTYPE another kind of socket
  if (errno == ENOENT) return 0;
  if (errno != ECONNREFUSED) return errno == EACCES ? -EACCES : -EADDRINUSE;
  return unlink(path.c_str()) == 0 || errno == ENOENT ? 0 : -errno;
}

}  // namespace

int ControlSocket::Listen(const std::string& path, ControlSocket* out) {
  struct sockaddr_un address;
  int ret = MakeAddress(path, &address);
  if (ret != 0) return ret;

  ControlSocket made;
  made.path_ = path;
  made.fd_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.fd_.valid()) return -errno;
  // bind() gives the file the mode of the socket, less the umask: the file never
  // has another mode, and the umask, which is the whole process's, stays.
  if (fchmod(made.fd_.get(), 0600) != 0) return -errno;

  UniqueFd lock;
  ret = LockDirectory(path, &lock);
  if (ret != 0) return ret;
  ret = RemoveIfDead(path, address);
  if (ret != 0) return ret;
  if (bind(made.fd_.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)) != 0) {
    return -errno;
  }
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) return -errno;
  made.device_ = st.st_dev;
  made.inode_ = st.st_ino;
  // Until listen() nobody can connect, so a file system with ideas of its own is set right in time.
  if ((st.st_mode & 07777) != 0600 && chmod(path.c_str(), 0600) != 0) ret = -errno;
  if (ret == 0 && listen(made.fd_.get(), 16) != 0) ret = -errno;
  if (ret != 0) {
    made.Close();
    return ret;
  }
  *out = std::move(made);
  return 0;
}

void ControlSocket::Close() {
  if (!fd_.valid()) return;
  struct stat st;
  if (lstat(path_.c_str(), &st) == 0 && st.st_dev == device_ && st.st_ino == inode_) unlink(path_.c_str());
  fd_.Reset();
}

bool PeerAllowed(const struct ucred& peer) { return peer.uid == 0 || peer.uid == geteuid(); }

}  // namespace snapbak
