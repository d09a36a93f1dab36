// SPDX-License-Identifier: MIT
// The user driver as the library sees it: the contract's requests over the
// control socket of an nbdkit with our plugin. Whatever comes back is checked:
// a socket may belong to anything.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "driver.h"
#include "wire.h"

namespace snapbak {

struct RemoteDriverOptions {
  // For a reply beyond what its request may itself take.
  std::chrono::milliseconds reply_timeout{10000};
};

// Errors besides the driver's own:
//   -EPROTO           what answered does not speak the contract
//   -EPROTONOSUPPORT  it speaks another version
//   -ECONNRESET       it is gone, or did not answer in time (then we hang up)
class RemoteDriver final : public Driver {
 public:
  // Connects and exchanges versions. -ENOENT, -ECONNREFUSED, -EACCES: nobody
  // listens there, or not to us; -EPERM: refused; -EUSERS: too many
  // connections; -ETIMEDOUT: it accepted and said nothing.
  static int Connect(const std::string& socket_path, std::unique_ptr<Driver>* out);
  static int Connect(const std::string& socket_path, const RemoteDriverOptions& options,
                     std::unique_ptr<Driver>* out);

  int Query(snapbak_query* query) override;
  int Open(snapbak_open* open, UniqueFd* lower) override;
  int Setup(snapbak_setup* setup, SharedMemory* memory) override;
  int Start(snapbak_start* start) override;
  int StopWrites(snapbak_stop_writes* stop) override;
  int Finish(snapbak_finish* finish) override;
  int Abort(snapbak_abort* abort) override;
  int Status(snapbak_status* status) override;
  int Hint(snapbak_hint* hint) override;
  void Kick() override;
  int WaitEvent(int cancel_fd, int timeout_ms) override;

 private:
  using Clock = std::chrono::steady_clock;

  RemoteDriver(UniqueFd socket, const RemoteDriverOptions& options)
      : socket_(std::move(socket)), options_(options) {}

  // One request and its reply. `body` is the structure, in and out; `fds` gets
  // the descriptors of a good reply. `own` is what the request itself may take.
  int Call(uint32_t cmd, void* body, UniqueFd (&fds)[kWireMaxFds], std::chrono::milliseconds own);
  int Call(uint32_t cmd, void* body, std::chrono::milliseconds own = {});
  int Send(const uint8_t* data, size_t size, Clock::time_point deadline);
  int Receive(uint8_t* data, size_t size, Clock::time_point deadline, UniqueFd (&fds)[kWireMaxFds],
              size_t* nr_fds);
  int ReceiveReply(uint32_t cmd, void* body, UniqueFd (&fds)[kWireMaxFds], Clock::time_point deadline);
  int HangUp(int error);

  const UniqueFd socket_;
  const RemoteDriverOptions options_;
  std::mutex mutex_;  // one request at a time; guards the next two
  uint32_t sequence_ = 0;
  bool hung_up_ = false;

  // Set by OPEN and SETUP, before Kick() and WaitEvent() are of use.
  uint64_t origin_size_ = 0;
  UniqueFd event_;
  UniqueFd kick_;
};

}  // namespace snapbak
