// SPDX-License-Identifier: MIT
// Serves the contract on a Unix socket for the engine of this process.
//
// One thread sits in poll(): it accepts, reads, notices who has gone, and
// passes kicks on, so nothing there may block. Requests may (START waits for
// writes in flight), so each connection has a worker that runs them one after
// the other. A connection is one control descriptor: when it goes, its session
// is ended. No write of an application passes here.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "control_socket.h"
#include "engine.h"
#include "unique_fd.h"

namespace snapbak {

struct ControlServerOptions {
  std::function<bool(const struct ucred&)> allow = PeerAllowed;
  // One line for whoever looks for the reason of a refusal; any thread.
  std::function<void(const std::string&)> debug = [](const std::string&) {};
  size_t max_connections = 16;
  // The rest of a request must follow its first byte within this time.
  std::chrono::milliseconds partial_timeout{10000};
  // A peer must take its reply within this time.
  std::chrono::milliseconds send_timeout{10000};
};

class ControlServer {
 public:
  // Listens at `path`; serves nobody before Start(), so that a process may
  // still fork in between. `engine` must outlive the server. Errors: see
  // ControlSocket::Listen.
  static int Listen(const std::string& path, Engine* engine, ControlServerOptions options,
                    std::unique_ptr<ControlServer>* out);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  int Start();

  // Ends every connection and its session, joins every thread, removes the
  // socket. Idempotent; one caller at a time.
  void Stop();

 private:
  class Connection;
  using Clock = std::chrono::steady_clock;

  ControlServer(ControlSocket socket, UniqueFd wake, Engine* engine, ControlServerOptions options);

  void Run();
  void Accept();
  void Refuse(UniqueFd socket, int result, const char* why);
  void Reap();
  int PollTimeout(Clock::time_point now) const;

  ControlSocket socket_;
  UniqueFd wake_;  // eventfd: Stop() was called, or a worker has news
  Engine* const engine_;
  const ControlServerOptions options_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};

  // Of the poll thread alone.
  std::vector<std::unique_ptr<Connection>> connections_;
  uint64_t last_owner_ = 0;
  Clock::time_point accept_again_{};
};

}  // namespace snapbak
