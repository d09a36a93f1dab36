// SPDX-License-Identifier: MIT
// One control descriptor as the server sees it: the socket, what was received
// of the next request, and the worker that runs requests. Internal to the
// control server; see there for who does what.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "control_server.h"
#include "dispatch.h"
#include "wire.h"

namespace snapbak {

class ControlServer::Connection {
 public:
  // `wake` is the server's eventfd.
  Connection(uint64_t owner, UniqueFd socket, int wake, Engine* engine, const ControlServerOptions& options);
  ~Connection();  // the worker must have ended, or never begun

  // Starts the worker. 0 or -errno.
  int Start();

  // --- for the poll thread
  int socket() const { return socket_.get(); }
  uint64_t owner() const { return owner_; }
  bool closing() const { return closing_; }
  // True when the worker has nothing to do: only then is the socket read.
  bool Idle();
  // Our end of the kicks, or -1; valid until the next call.
  int kick();
  // Reads what is there and hands a complete request to the worker.
  void Receive();
  // Looks for a complete request in what was received; the worker must be idle.
  void HandOver();
  // The peer has gone, or shall: ends the session. Returns at once.
  void Disconnect();
  // Half a request is here, and the other half must come until `partial_deadline`.
  bool HasPartial() { return filled_ > 0 && !closing_ && Idle(); }
  Clock::time_point partial_deadline() const { return partial_deadline_; }
  // Gives the socket away, after Start() has failed.
  UniqueFd TakeSocket() { return std::move(socket_); }
  // The worker has ended and may be joined without waiting.
  bool Ended();

 private:
  void Work();
  bool Send(const void* data, size_t size, const UniqueFd* fds, size_t nr_fds);

  const uint64_t owner_;
  UniqueFd socket_;
  const int wake_;
  Engine* const engine_;
  const ControlServerOptions& options_;
  std::thread worker_;

  // Of the poll thread alone.
  bool closing_ = false;
  size_t filled_ = 0;
  Clock::time_point partial_deadline_ = Clock::time_point::max();
  UniqueFd kick_;
  std::array<uint8_t, kWireMaxRequest> buffer_;

  // Between the two.
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;     // request_ is waiting or running
  bool leaving_ = false;  // no more requests
  bool ended_ = false;
  Parsed parsed_ = Parsed::kMore;
  int refusal_ = 0;
  WireRequest request_;
  UniqueFd new_kick_;  // from SETUP, until the poll thread takes it
};

}  // namespace snapbak
