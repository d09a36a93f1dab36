// SPDX-License-Identifier: MIT
// Notices to whoever runs the session: one call at a time, each final word
// once, and "complete" never after a word that denies it.
#pragma once

#include <functional>
#include <mutex>

#include "copy_session.h"

namespace snapbak {

class Notifier {
 public:
  explicit Notifier(std::function<void(const Notice&)> notify) : notify_(std::move(notify)) {}

  // Never call it with a lock held that PushWork takes.
  void Send(NoticeKind kind, uint64_t block = 0, int error = 0, uint32_t value = 0);

 private:
  const std::function<void(const Notice&)> notify_;
  std::mutex mutex_;
  uint32_t sent_ = 0;  // guarded by mutex_; bit 1 << kind
};

}  // namespace snapbak
