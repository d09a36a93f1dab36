// SPDX-License-Identifier: MIT
#include "control_server.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "control_connection.h"
#include "wake.h"

namespace snapbak {

namespace {

// Out of descriptors or memory: accept() would fail again at once, and poll() would not wait.
constexpr auto kAcceptPause = std::chrono::seconds(1);

void Drain(int eventfd) {
  uint64_t count;
  while (read(eventfd, &count, sizeof(count)) < 0 && errno == EINTR) {
  }
}

}  // namespace

int ControlServer::Listen(const std::string& path, Engine* engine, ControlServerOptions options,
                          std::unique_ptr<ControlServer>* out) {
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return -errno;
  ControlSocket socket;
  const int ret = ControlSocket::Listen(path, &socket);
  if (ret != 0) return ret;
  out->reset(new ControlServer(std::move(socket), std::move(wake), engine, std::move(options)));
  return 0;
}

ControlServer::ControlServer(ControlSocket socket, UniqueFd wake, Engine* engine,
                             ControlServerOptions options)
    : socket_(std::move(socket)), wake_(std::move(wake)), engine_(engine), options_(std::move(options)) {}

ControlServer::~ControlServer() { Stop(); }

int ControlServer::Start() {
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error&) {
    return -EAGAIN;
  }
  return 0;
}

void ControlServer::Stop() {
  stopping_.store(true);
  if (thread_.joinable()) {
    const uint64_t one = 1;
    while (write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    thread_.join();
  }
  socket_.Close();
}

void ControlServer::Run() {
  std::vector<struct pollfd> fds;
  while (!stopping_.load()) {
    Reap();
    // Order: wake, listener, then socket and kick of each connection.
    fds.clear();
    fds.push_back({wake_.get(), POLLIN, 0});
    const bool accepting = Clock::now() >= accept_again_;
    fds.push_back({accepting ? socket_.fd() : -1, POLLIN, 0});
    for (const auto& connection : connections_) {
      const bool gone = connection->closing();
      const short events = connection->Idle() ? POLLIN | POLLRDHUP : POLLRDHUP;
      fds.push_back({gone ? -1 : connection->socket(), events, 0});
      fds.push_back({gone ? -1 : connection->kick(), POLLIN, 0});
    }
    if (poll(fds.data(), fds.size(), PollTimeout(Clock::now())) < 0) continue;  // EINTR

    if (fds[0].revents != 0) Drain(wake_.get());
    bool kicked = false;
    for (size_t i = 0; 2 + 2 * i < fds.size(); ++i) {
      Connection* connection = connections_[i].get();
      const struct pollfd& socket = fds[2 + 2 * i];
      const struct pollfd& kick = fds[3 + 2 * i];
      if (kick.revents != 0) {
        // A peer that shuts this end would keep us awake for ever.
        if (!TakeWakes(kick.fd)) connection->Disconnect();
        kicked = true;
      }
      if ((socket.revents & POLLIN) != 0) {
        connection->Receive();
      } else if (socket.revents != 0) {
        connection->Disconnect();
      }
      if (connection->HasPartial() && Clock::now() >= connection->partial_deadline()) {
        options_.debug("control: half a request and nothing more; connection closed");
        connection->Disconnect();
      }
    }
    if (kicked) engine_->Kick();
    if (fds[1].revents != 0) Accept();
  }
  for (const auto& connection : connections_) connection->Disconnect();
  connections_.clear();  // joins the workers
}

// Ended connections go; those that are idle again look at what they have received already.
void ControlServer::Reap() {
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                    [](const auto& connection) { return connection->Ended(); }),
                     connections_.end());
  for (const auto& connection : connections_) {
    if (connection->Idle()) connection->HandOver();
  }
}

int ControlServer::PollTimeout(Clock::time_point now) const {
  Clock::time_point until = Clock::time_point::max();
  if (accept_again_ > now) until = accept_again_;
  for (const auto& connection : connections_) {
    if (connection->HasPartial()) {
      until = std::min(until, connection->partial_deadline());
    }
  }
  if (until == Clock::time_point::max()) return -1;
  if (until <= now) return 0;
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(until - now).count()) + 1;
}

void ControlServer::Accept() {
  UniqueFd socket(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket.valid()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      accept_again_ = Clock::now() + kAcceptPause;
    }
    return;
  }
  struct ucred peer;
  socklen_t length = sizeof(peer);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || !options_.allow(peer)) {
    return Refuse(std::move(socket), -EPERM, "a process of another user");
  }
  if (connections_.size() >= options_.max_connections) {
    return Refuse(std::move(socket), -EUSERS, "too many connections");
  }
  auto connection =
      std::make_unique<Connection>(++last_owner_, std::move(socket), wake_.get(), engine_, options_);
  const int ret = connection->Start();
  if (ret != 0) return Refuse(connection->TakeSocket(), ret, "no thread for it");
  connections_.push_back(std::move(connection));
}

// Says why, to a peer that has not asked yet, and closes.
void ControlServer::Refuse(UniqueFd socket, int result, const char* why) {
  options_.debug(std::string("control: connection refused: ") + why);
  uint8_t reply[kWireMaxReply];
  const size_t size = EncodeReply(WireRequest{}, result, reply);
  // An empty send buffer takes it whole; a peer that is gone already needs none.
  if (send(socket.get(), reply, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    options_.debug("control: the refused peer is gone");
  }
}

}  // namespace snapbak
