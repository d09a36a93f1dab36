// SPDX-License-Identifier: MIT
// Tells when nbdkit has been asked to quit. nbdkit has no callback for it:
// `cleanup` comes only after the last request has ended, and a write that is
// held is a request.
#pragma once

#include <functional>
#include <thread>

namespace snapbak {

class ShutdownWatch {
 public:
  ~ShutdownWatch() { Stop(); }

  // `on_shutdown` is called once, on a thread of the watch. 0 or -errno.
  int Start(std::function<void()> on_shutdown);

  // Ends the watch, after `on_shutdown` has returned; nbdkit must be on its
  // way out. Idempotent.
  void Stop();

 private:
  std::thread thread_;
};

}  // namespace snapbak
