// SPDX-License-Identifier: MIT
// The end of a session's threads: a flag that sleepers on a clock wait for, and
// a descriptor for the one that sleeps in Driver::WaitEvent.
#pragma once

#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "../driver/unique_fd.h"

namespace snapbak {

class StopSignal {
 public:
  // Before anything else. 0 or -errno.
  int Open() {
    fd_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return fd_.valid() ? 0 : -errno;
  }

  void Raise() {
    {
      std::lock_guard lock(mutex_);
      raised_ = true;
    }
    changed_.notify_all();
    if (fd_.valid()) (void)eventfd_write(fd_.get(), 1);
  }
  bool raised() const { return raised_; }
  // Readable once raised.
  int fd() const { return fd_.get(); }

  // Sleeps so long, or until raised. True if raised.
  bool Sleep(std::chrono::microseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [this] { return raised_.load(); });
  }

 private:
  UniqueFd fd_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> raised_{false};
};

}  // namespace snapbak
