// SPDX-License-Identifier: MIT
// Our half of an export: answers the requests that nbdkit's plugin
// (native/nbdkit/export_plugin.cc) sends for its clients, on connected sockets,
// a thread for each.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../driver/unique_fd.h"
#include "exported_device.h"

namespace snapbak {

class ExportServer {
 public:
  // Starts `connections` threads. `*peers` are the other ends, to be handed to
  // a child and closed here: when nobody has them open any more, the threads
  // end. 0 or -errno (-EINVAL for none or too many connections).
  static int Start(std::shared_ptr<ExportedDevice> device, unsigned connections, std::vector<UniqueFd>* peers,
                   std::unique_ptr<ExportServer>* out);

  ~ExportServer();

  // Hangs up, and waits for the threads. A request that is in the device is
  // waited for: if it may wait for long, the device is shut down first.
  // Idempotent; not from a thread of the device.
  void Stop();

  // Nobody has any of the other ends open any more: its threads have ended, or are about to. Any thread.
  bool ended() const { return running_ == 0; }

 private:
  class Connection;

  ExportServer();

  std::atomic<unsigned> running_{0};  // connections with a thread
  std::mutex mutex_;                  // around Stop
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace snapbak
