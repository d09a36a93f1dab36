// SPDX-License-Identifier: MIT
#include "remote_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "wake.h"

namespace snapbak {

namespace {

using std::chrono::milliseconds;

// What these may take by themselves: SETUP fills the shared memory with pages,
// FINISH and ABORT wait for the writes inside the driver.
constexpr milliseconds kSetupOwn{60000};
constexpr milliseconds kQuiesceOwn{60000};

int RemainingMs(std::chrono::steady_clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
  return left.count() < 0 ? 0 : static_cast<int>(std::min<int64_t>(left.count() + 1, 1 << 30));
}

// 0, -ETIMEDOUT or another -errno.
int Poll(int fd, short events, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    struct pollfd pfd = {fd, events, 0};
    const int n = poll(&pfd, 1, RemainingMs(deadline));
    if (n > 0) return 0;
    if (n == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

template <size_t N>
bool Terminated(const __u8 (&text)[N]) {
  return memchr(text, 0, N) != nullptr;
}

bool PowerOfTwo(uint64_t v) { return v != 0 && (v & (v - 1)) == 0; }

int CheckLower(const snapbak_open& open, int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return -errno;
  const bool block = (open.origin_flags & SNAPBAK_O_BLOCK_DEVICE) != 0;
  if (block ? !S_ISBLK(st.st_mode) : !S_ISREG(st.st_mode)) return -EPROTO;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  return (flags & O_ACCMODE) == O_WRONLY ? -EPROTO : 0;
}

}  // namespace

int RemoteDriver::Connect(const std::string& socket_path, std::unique_ptr<Driver>* out) {
  return Connect(socket_path, RemoteDriverOptions{}, out);
}

int RemoteDriver::Connect(const std::string& socket_path, const RemoteDriverOptions& options,
                          std::unique_ptr<Driver>* out) {
  struct sockaddr_un address = {};
  if (socket_path.empty()) return -EINVAL;
  if (socket_path.size() >= sizeof(address.sun_path)) return -ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);

  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return -errno;
  // A Unix socket connects at once or not at all; EAGAIN: the server's backlog is full.
  if (connect(socket.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0) {
    return errno == EAGAIN ? -EUSERS : -errno;
  }
  std::unique_ptr<RemoteDriver> driver(new RemoteDriver(std::move(socket), options));

  snapbak_query query{};
  query.size = sizeof(query);
  const int ret = driver->Query(&query);
  // A driver that knows QUERY, but not this one.
  if (ret == -ENOTTY || ret == -EINVAL) return -EPROTONOSUPPORT;
  if (ret != 0) return ret;
  if (query.abi_version != SNAPBAK_ABI_VERSION) return -EPROTONOSUPPORT;
  *out = std::move(driver);
  return 0;
}

// After this, every request answers -ECONNRESET: once a reply is missing or
// wrong there is no telling which reply comes next.
int RemoteDriver::HangUp(int error) {
  hung_up_ = true;
  shutdown(socket_.get(), SHUT_RDWR);
  return error;
}

int RemoteDriver::Send(const uint8_t* data, size_t size, Clock::time_point deadline) {
  while (size > 0) {
    const ssize_t n = send(socket_.get(), data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      // Gone; but it may have said why before it went.
      if (errno == EPIPE || errno == ECONNRESET) return 0;
      if (errno != EAGAIN) return -errno;
      const int ret = Poll(socket_.get(), POLLOUT, deadline);
      if (ret != 0) return ret;
      continue;
    }
    data += n;
    size -= static_cast<size_t>(n);
  }
  return 0;
}

// Exactly `size` bytes, and the descriptors that came with them.
int RemoteDriver::Receive(uint8_t* data, size_t size, Clock::time_point deadline,
                          UniqueFd (&fds)[kWireMaxFds], size_t* nr_fds) {
  while (size > 0) {
    struct iovec iov = {data, size};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kWireMaxFds)];
    struct msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t n = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return -ECONNRESET;
      const int ret = Poll(socket_.get(), POLLIN, deadline);
      if (ret != 0) return ret;
      continue;
    }
    bool too_many = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        // Owned at once, so that no way out of here leaks one.
        UniqueFd owned(fd);
        if (*nr_fds < kWireMaxFds) {
          fds[(*nr_fds)++] = std::move(owned);
        } else {
          too_many = true;
        }
      }
    }
    if (too_many) return -EPROTO;
    if (n == 0) return -ECONNRESET;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return 0;
}

int RemoteDriver::ReceiveReply(uint32_t cmd, void* body, UniqueFd (&fds)[kWireMaxFds],
                               Clock::time_point deadline) {
  size_t nr_fds = 0;
  WireReplyHeader header;
  int ret = Receive(reinterpret_cast<uint8_t*>(&header), sizeof(header), deadline, fds, &nr_fds);
  if (ret != 0) return HangUp(ret);
  if (header.magic != kWireMagic || header.reserved != 0 || header.result > 0 || header.result < -4095) {
    return HangUp(-EPROTO);
  }
  // The connection itself was refused; the reason is all there is.
  if (header.cmd == 0 && header.result < 0 && header.size == 0) return HangUp(header.result);
  const uint32_t expected = static_cast<uint32_t>(WirePayloadSize(cmd));
  if (header.cmd != cmd || header.sequence != sequence_) return HangUp(-EPROTO);
  if (header.size != expected && !(header.result < 0 && header.size == 0)) return HangUp(-EPROTO);

  WireBody reply{};
  if (header.size > 0) {
    ret = Receive(reinterpret_cast<uint8_t*>(&reply), header.size, deadline, fds, &nr_fds);
    if (ret != 0) return HangUp(ret);
    if (reply.size != header.size) return HangUp(-EPROTO);
  }
  if (nr_fds != (header.result == 0 ? WireReplyFds(cmd) : 0)) return HangUp(-EPROTO);
  if (header.result == 0 && expected > 0) memcpy(body, &reply, expected);
  return header.result;
}

int RemoteDriver::Call(uint32_t cmd, void* body, UniqueFd (&fds)[kWireMaxFds], milliseconds own) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (hung_up_) return -ECONNRESET;
  uint8_t request[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t size = EncodeRequest(cmd, ++sequence_, body, request);
  const Clock::time_point deadline = Clock::now() + own + options_.reply_timeout;
  int ret = Send(request, size, deadline);
  if (ret != 0) return HangUp(ret == -ETIMEDOUT ? -ECONNRESET : ret);
  ret = ReceiveReply(cmd, body, fds, deadline);
  // START's own -ETIMEDOUT says that nothing has changed. Silence says no such
  // thing: by hanging up we end the session, and that is what the caller hears.
  if (ret == -ETIMEDOUT && hung_up_) return cmd == SNAPBAK_IOC_QUERY ? -ETIMEDOUT : -ECONNRESET;
  return ret;
}

int RemoteDriver::Call(uint32_t cmd, void* body, milliseconds own) {
  UniqueFd fds[kWireMaxFds];
  return Call(cmd, body, fds, own);
}

int RemoteDriver::Query(snapbak_query* query) {
  const int ret = Call(SNAPBAK_IOC_QUERY, query);
  if (ret != 0) return ret;
  return Terminated(query->version) ? 0 : -EPROTO;
}

int RemoteDriver::Open(snapbak_open* open, UniqueFd* lower) {
  UniqueFd fds[kWireMaxFds];
  int ret = Call(SNAPBAK_IOC_OPEN, open, fds, {});
  if (ret != 0) return ret;
  if (!Terminated(open->origin_id) || open->origin_size == 0 || !PowerOfTwo(open->sector_size) ||
      open->sector_size < 512 || open->sector_size > (1u << SNAPBAK_MAX_BLOCK_SHIFT)) {
    return -EPROTO;
  }
  ret = CheckLower(*open, fds[0].get());
  if (ret != 0) return ret;
  origin_size_ = open->origin_size;
  *lower = std::move(fds[0]);
  return 0;
}

int RemoteDriver::Setup(snapbak_setup* setup, SharedMemory* memory) {
  const snapbak_setup asked = *setup;
  UniqueFd fds[kWireMaxFds];
  int ret = Call(SNAPBAK_IOC_SETUP, setup, fds, kSetupOwn);
  if (ret != 0) return ret;
  SharedMemory adopted;
  ret = SharedMemory::Adopt(std::move(fds[0]), &adopted);
  if (ret != 0) return ret;
  const snapbak_shm& geometry = adopted.geometry();
  if (adopted.size() != setup->map_size || geometry.block_shift != asked.block_shift ||
      geometry.nr_slots != asked.nr_slots || geometry.origin_size != origin_size_) {
    return -EPROTO;
  }
  if (!IsWakeEnd(fds[1].get()) || !IsWakeEnd(fds[2].get())) return -EPROTO;
  event_ = std::move(fds[1]);
  kick_ = std::move(fds[2]);
  *memory = std::move(adopted);
  return 0;
}

int RemoteDriver::Start(snapbak_start* start) {
  return Call(SNAPBAK_IOC_START, start, milliseconds(std::min<uint64_t>(start->timeout_ms, 600000)));
}

int RemoteDriver::StopWrites(snapbak_stop_writes* stop) {
  return Call(SNAPBAK_IOC_STOP_WRITES, stop, milliseconds(std::min<uint64_t>(stop->timeout_ms, 600000)));
}

int RemoteDriver::Finish(snapbak_finish* finish) { return Call(SNAPBAK_IOC_FINISH, finish, kQuiesceOwn); }

int RemoteDriver::Abort(snapbak_abort* abort) { return Call(SNAPBAK_IOC_ABORT, abort, kQuiesceOwn); }

int RemoteDriver::Status(snapbak_status* status) {
  const int ret = Call(SNAPBAK_IOC_STATUS, status);
  if (ret != 0) return ret;
  return Terminated(status->origin_id) ? 0 : -EPROTO;
}

int RemoteDriver::Hint(snapbak_hint* hint) { return Call(SNAPBAK_IOC_HINT, hint); }

void RemoteDriver::Kick() { Wake(kick_.get()); }

int RemoteDriver::WaitEvent(int cancel_fd, int timeout_ms) {
  // Not POLLIN on the socket: a reply to a request beside us is none of our business.
  struct pollfd fds[3] = {{cancel_fd, POLLIN, 0}, {event_.get(), POLLIN, 0}, {socket_.get(), POLLRDHUP, 0}};
  const int n = poll(fds, 3, timeout_ms);
  if (n < 0) return errno == EINTR ? 0 : -errno;  // a wake-up for nothing does no harm
  if (n == 0) return -ETIMEDOUT;
  if (fds[0].revents != 0) return -ECANCELED;
  // A last wake-up comes first: the shared memory may say why the driver went.
  if (fds[1].revents == 0) return -ECONNRESET;
  return TakeWakes(event_.get()) ? 0 : -ECONNRESET;
}

}  // namespace snapbak
