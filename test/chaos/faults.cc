// SPDX-License-Identifier: MIT
// A library to preload (LD_PRELOAD) that makes system calls fail, fall short or
// take longer, by a table that test/chaos/fault-table.ts writes into the shared
// file $SNAPBAK_FAULTS. Nothing of Snapbak is replaced: its calls of read and
// write meet what a bad disk or a bad socket would do to them.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

namespace {

enum Op : uint32_t { kRead = 1, kWrite = 2, kSync = 4, kAllocate = 8, kSend = 16, kReceive = 32 };
enum Effect : uint32_t { kError = 1, kShort = 2, kDelay = 3, kSever = 4 };

// As fault-table.ts writes it.
struct Rule {
  uint32_t armed;
  uint32_t ops;
  uint32_t effect;
  int32_t value;    // errno; the grain of a short transfer in bytes; microseconds
  uint32_t chance;  // of 65,536
  int32_t left;     // how often it may still act; below zero: for ever
  uint64_t from;    // bytes of the file that it is about
  uint64_t to;
  uint64_t hits;
  char path[80];  // of the file or the socket, or a part of it
};
static_assert(sizeof(Rule) == 128);

constexpr int kRules = 16;

Rule* Table() {
  static Rule* const table = [] {
    const char* path = getenv("SNAPBAK_FAULTS");
    if (path == nullptr) return static_cast<Rule*>(nullptr);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return static_cast<Rule*>(nullptr);
    void* map = mmap(nullptr, kRules * sizeof(Rule), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return map == MAP_FAILED ? nullptr : static_cast<Rule*>(map);
  }();
  return table;
}

uint32_t Random() {
  static uint32_t threads = 0;
  thread_local uint32_t state = 0x9e3779b9u * (__atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED) + 1);
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

// The name of what is open: of a socket, that at which either end is bound.
void NameOf(int fd, char* name, size_t size) {
  char link[64];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, name, size - 1);
  name[std::max<ssize_t>(n, 0)] = '\0';
  constexpr char kDeleted[] = " (deleted)";
  char* tail = strstr(name, kDeleted);
  if (tail != nullptr) *tail = '\0';
  if (strncmp(name, "socket:", 7) != 0) return;
  for (auto* ask : {&getpeername, &getsockname}) {
    struct sockaddr_un address {};
    socklen_t length = sizeof(address);
    if (ask(fd, reinterpret_cast<struct sockaddr*>(&address), &length) == 0 &&
        address.sun_family == AF_UNIX && address.sun_path[0] == '/') {
      snprintf(name, size, "%s", address.sun_path);
      return;
    }
  }
}

// A rule names a file in full, or a part of its name.
bool Matches(const char* name, const char* path) {
  return path[0] == '/' ? strcmp(name, path) == 0 : strstr(name, path) != nullptr;
}

bool Take(Rule* rule) {
  if ((Random() & 0xffff) >= rule->chance) return false;
  int32_t left = __atomic_load_n(&rule->left, __ATOMIC_RELAXED);
  do {
    if (left == 0) return false;
    if (left < 0) break;
  } while (
      !__atomic_compare_exchange_n(&rule->left, &left, left - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  __atomic_add_fetch(&rule->hits, 1, __ATOMIC_RELAXED);
  return true;
}

// Ends the connections of this process to (or from) such a socket.
void Sever(const char* path) {
  for (int fd = 3; fd < 1024; ++fd) {
    char name[256];
    NameOf(fd, name, sizeof(name));
    if (Matches(name, path) && strncmp(name, "socket:", 7) != 0) shutdown(fd, SHUT_RDWR);
  }
}

// What befalls a call: an errno to fail with, or 0 and perhaps fewer bytes.
int Befall(Op op, int fd, uint64_t offset, size_t* length) {
  Rule* const table = Table();
  if (table == nullptr) return 0;
  char name[256] = "";
  for (Rule* rule = table; rule < table + kRules; ++rule) {
    if (__atomic_load_n(&rule->armed, __ATOMIC_ACQUIRE) == 0 || (rule->ops & op) == 0) continue;
    if (rule->effect == kSever) {
      if (Take(rule)) Sever(rule->path);
      continue;
    }
    if (offset >= rule->to || offset + *length <= rule->from) continue;
    if (name[0] == '\0') NameOf(fd, name, sizeof(name));
    if (!Matches(name, rule->path)) continue;
    const auto grain = static_cast<size_t>(std::max(rule->value, 1));
    if (rule->effect == kShort && *length <= grain) continue;
    if (!Take(rule)) continue;
    if (rule->effect == kError) return rule->value;
    if (rule->effect == kDelay) usleep(static_cast<useconds_t>(rule->value));
    if (rule->effect == kShort) *length = (1 + Random() % ((*length - 1) / grain)) * grain;
  }
  return 0;
}

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

size_t LengthOf(const struct iovec* iov, int count) {
  size_t length = 0;
  for (int i = 0; i < count; ++i) length += iov[i].iov_len;
  return length;
}

// The first `length` bytes of a vector.
struct Cut {
  static constexpr int kMost = 1024;
  struct iovec iov[kMost];
  int count = 0;

  Cut(const struct iovec* from, int n, size_t length) {
    for (; count < std::min(n, kMost) && length > 0; ++count) {
      iov[count] = {from[count].iov_base, std::min(from[count].iov_len, length)};
      length -= iov[count].iov_len;
    }
  }
};

constexpr uint64_t kNoOffset = 0;

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

#define PLAIN(NAME, OP, BUFFER)                                                 \
  EXPORT ssize_t NAME(int fd, BUFFER data, size_t length, off_t offset) {       \
    static auto* const real = Real<ssize_t(int, BUFFER, size_t, off_t)>(#NAME); \
    errno = Befall(OP, fd, static_cast<uint64_t>(offset), &length);             \
    return errno != 0 ? -1 : real(fd, data, length, offset);                    \
  }
PLAIN(pread, kRead, void*)
PLAIN(pread64, kRead, void*)
PLAIN(pwrite, kWrite, const void*)
PLAIN(pwrite64, kWrite, const void*)

#define VECTOR(NAME, OP)                                                                  \
  EXPORT ssize_t NAME(int fd, const struct iovec* iov, int count, off_t offset) {         \
    static auto* const real = Real<ssize_t(int, const struct iovec*, int, off_t)>(#NAME); \
    size_t length = LengthOf(iov, count);                                                 \
    errno = Befall(OP, fd, static_cast<uint64_t>(offset), &length);                       \
    if (errno != 0) return -1;                                                            \
    const Cut cut(iov, count, length);                                                    \
    return real(fd, cut.iov, cut.count, offset);                                          \
  }
VECTOR(preadv, kRead)
VECTOR(preadv64, kRead)

#define VECTOR2(NAME)                                                                          \
  EXPORT ssize_t NAME(int fd, const struct iovec* iov, int count, off_t offset, int flags) {   \
    static auto* const real = Real<ssize_t(int, const struct iovec*, int, off_t, int)>(#NAME); \
    size_t length = LengthOf(iov, count);                                                      \
    errno = Befall(kWrite, fd, static_cast<uint64_t>(offset), &length);                        \
    if (errno != 0) return -1;                                                                 \
    const Cut cut(iov, count, length);                                                         \
    return real(fd, cut.iov, cut.count, offset, flags);                                        \
  }
VECTOR2(pwritev2)
VECTOR2(pwritev64v2)

EXPORT ssize_t write(int fd, const void* data, size_t length) {
  static auto* const real = Real<ssize_t(int, const void*, size_t)>("write");
  errno = Befall(kWrite, fd, kNoOffset, &length);
  return errno != 0 ? -1 : real(fd, data, length);
}

#define SYNC(NAME)                                   \
  EXPORT int NAME(int fd) {                          \
    static auto* const real = Real<int(int)>(#NAME); \
    size_t none = 1;                                 \
    errno = Befall(kSync, fd, kNoOffset, &none);     \
    return errno != 0 ? -1 : real(fd);               \
  }
SYNC(fsync)
SYNC(fdatasync)

#define ALLOCATE(NAME)                                                    \
  EXPORT int NAME(int fd, int mode, off_t offset, off_t length) {         \
    static auto* const real = Real<int(int, int, off_t, off_t)>(#NAME);   \
    auto bytes = static_cast<size_t>(length);                             \
    errno = Befall(kAllocate, fd, static_cast<uint64_t>(offset), &bytes); \
    return errno != 0 ? -1 : real(fd, mode, offset, length);              \
  }
ALLOCATE(fallocate)
ALLOCATE(fallocate64)

EXPORT ssize_t send(int fd, const void* data, size_t length, int flags) {
  static auto* const real = Real<ssize_t(int, const void*, size_t, int)>("send");
  errno = Befall(kSend, fd, kNoOffset, &length);
  return errno != 0 ? -1 : real(fd, data, length, flags);
}

EXPORT ssize_t recv(int fd, void* data, size_t length, int flags) {
  static auto* const real = Real<ssize_t(int, void*, size_t, int)>("recv");
  errno = Befall(kReceive, fd, kNoOffset, &length);
  return errno != 0 ? -1 : real(fd, data, length, flags);
}

#define MESSAGE(NAME, OP, HEADER)                                              \
  EXPORT ssize_t NAME(int fd, HEADER message, int flags) {                     \
    static auto* const real = Real<ssize_t(int, HEADER, int)>(#NAME);          \
    struct msghdr part = *message;                                             \
    size_t length = LengthOf(part.msg_iov, static_cast<int>(part.msg_iovlen)); \
    errno = Befall(OP, fd, kNoOffset, &length);                                \
    if (errno != 0) return -1;                                                 \
    Cut cut(part.msg_iov, static_cast<int>(part.msg_iovlen), length);          \
    part.msg_iov = cut.iov;                                                    \
    part.msg_iovlen = static_cast<size_t>(cut.count);                          \
    const ssize_t n = real(fd, &part, flags);                                  \
    CopyBack(&part, message);                                                  \
    return n;                                                                  \
  }

static void CopyBack(const struct msghdr*, const struct msghdr*) {}
static void CopyBack(const struct msghdr* part, struct msghdr* message) {
  message->msg_controllen = part->msg_controllen;
  message->msg_namelen = part->msg_namelen;
  message->msg_flags = part->msg_flags;
}

MESSAGE(sendmsg, kSend, const struct msghdr*)
MESSAGE(recvmsg, kReceive, struct msghdr*)
