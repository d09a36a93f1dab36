// SPDX-License-Identifier: MIT
#include "shutdown_watch.h"

#include <errno.h>

#include <system_error>
#include <utility>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace snapbak {

namespace {

constexpr unsigned kLongSeconds = 1u << 20;

}  // namespace

int ShutdownWatch::Start(std::function<void()> on_shutdown) {
  try {
    thread_ = std::thread([call = std::move(on_shutdown)] {
      // Returns early, and fails, when nbdkit is to quit: the one way to wait for that.
      while (nbdkit_nanosleep(kLongSeconds, 0) == 0) {
      }
      call();
    });
  } catch (const std::system_error&) {
    return -EAGAIN;
  }
  return 0;
}

void ShutdownWatch::Stop() {
  if (!thread_.joinable()) return;
  // nbdkit can also end without having been asked to (its one client has gone,
  // with -s): then we ask.
  nbdkit_shutdown();
  thread_.join();
}

}  // namespace snapbak
