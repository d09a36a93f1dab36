// SPDX-License-Identifier: MIT
#include "control_connection.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>
#include <system_error>
#include <utility>

namespace snapbak {

namespace {

void WakeServer(int eventfd) {
  const uint64_t one = 1;
  // EAGAIN means that the counter is full: the reader has a wake-up coming anyway
  while (write(eventfd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

}  // namespace

ControlServer::Connection::Connection(uint64_t owner, UniqueFd socket, int wake, Engine* engine,
                                      const ControlServerOptions& options)
    : owner_(owner), socket_(std::move(socket)), wake_(wake), engine_(engine), options_(options) {}

ControlServer::Connection::~Connection() {
  if (worker_.joinable()) worker_.join();
}

int ControlServer::Connection::Start() {
  // The worker's sends block, but not for ever: a peer that takes no reply is dropped.
  const auto limit = std::chrono::duration_cast<std::chrono::microseconds>(options_.send_timeout);
  struct timeval tv;
  tv.tv_sec = static_cast<time_t>(limit.count() / 1000000);
  tv.tv_usec = static_cast<suseconds_t>(limit.count() % 1000000);
  if (setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) != 0) return -errno;
  try {
    worker_ = std::thread([this] { Work(); });
  } catch (const std::system_error&) {
    return -EAGAIN;
  }
  return 0;
}

bool ControlServer::Connection::Idle() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !busy_;
}

// Only the poll thread closes a kick descriptor: it must never poll, let alone
// read, a number that the worker has closed and somebody else has got since.
int ControlServer::Connection::kick() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (new_kick_.valid()) kick_ = std::move(new_kick_);
  return kick_.get();
}

bool ControlServer::Connection::Ended() {
  std::lock_guard<std::mutex> lock(mutex_);
  return ended_;
}

void ControlServer::Connection::Receive() {
  // No room for descriptors is given, so whatever a peer attaches is closed by the kernel.
  const ssize_t n = recv(socket_.get(), buffer_.data() + filled_, buffer_.size() - filled_, MSG_DONTWAIT);
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) Disconnect();
    return;
  }
  if (n == 0) {
    Disconnect();
    return;
  }
  filled_ += static_cast<size_t>(n);
  HandOver();
}

// Requests that came together wait here until the worker is idle again.
void ControlServer::Connection::HandOver() {
  if (filled_ == 0 || closing_) return;
  size_t consumed;
  int error;
  WireRequest request;
  const Parsed parsed = ParseRequest(buffer_.data(), filled_, &consumed, &request, &error);
  if (parsed == Parsed::kMore) {
    if (partial_deadline_ == Clock::time_point::max()) {
      partial_deadline_ = Clock::now() + options_.partial_timeout;
    }
    return;
  }
  if (parsed == Parsed::kRubbish) {
    options_.debug("control: a peer does not speak the contract; connection closed");
    Disconnect();
    return;
  }
  filled_ -= consumed;
  memmove(buffer_.data(), buffer_.data() + consumed, filled_);
  partial_deadline_ = Clock::time_point::max();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    request_ = request;
    parsed_ = parsed;
    refusal_ = error;
    busy_ = true;
  }
  changed_.notify_one();
}

void ControlServer::Connection::Disconnect() {
  if (closing_) return;
  closing_ = true;
  filled_ = 0;
  // Ends a send that waits; the descriptor itself stays until the worker has ended.
  shutdown(socket_.get(), SHUT_RDWR);
  // Not left to the worker: its request may be waiting for writes that are held.
  engine_->HandleGone(owner_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_one();
}

bool ControlServer::Connection::Send(const void* data, size_t size, const UniqueFd* fds, size_t nr_fds) {
  const auto* at = static_cast<const uint8_t*>(data);
  while (size > 0) {
    struct iovec iov = {const_cast<uint8_t*>(at), size};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kWireMaxFds)] = {};
    struct msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    if (nr_fds > 0) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
      struct cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
      cmsg->cmsg_level = SOL_SOCKET;
      cmsg->cmsg_type = SCM_RIGHTS;
      cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
      for (size_t i = 0; i < nr_fds; ++i) {
        const int fd = fds[i].get();
        memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(int));
      }
    }
    const ssize_t n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    nr_fds = 0;  // they went with the first bytes
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

void ControlServer::Connection::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return busy_ || leaving_; });
    if (leaving_) break;
    WireRequest request = request_;
    const bool run = parsed_ == Parsed::kRequest;
    Answer answer;
    answer.result = refusal_;
    lock.unlock();

    if (run) answer = Dispatch(engine_, owner_, &request);
    const size_t nr_fds = run && answer.result == 0 ? WireReplyFds(request.cmd) : 0;
    // A kick that comes before the poll thread looks here stays in the socket.
    if (answer.kick.valid()) {
      lock.lock();
      new_kick_ = std::move(answer.kick);
      lock.unlock();
    }
    uint8_t reply[kWireMaxReply];
    const size_t size = EncodeReply(request, answer.result, reply);
    if (!Send(reply, size, answer.fds, nr_fds)) {
      // The poll thread finds the connection shut and takes it from here.
      shutdown(socket_.get(), SHUT_RDWR);
    }

    lock.lock();
    busy_ = false;
    WakeServer(wake_);
  }
  lock.unlock();
  // After the last request, so that no session can begin behind it.
  engine_->HandleClose(owner_);
  lock.lock();
  ended_ = true;
  // Still under the lock: the server may delete us as soon as it sees ended_.
  WakeServer(wake_);
}

}  // namespace snapbak
