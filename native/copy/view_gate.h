// SPDX-License-Identifier: MIT
// The door between a session and its point-in-time views, which may outlive
// it: whoever is inside may use the session's memory and queues. The session
// shuts the door before it goes, and waits until nobody is inside.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace snapbak {

class CopyState;

class ViewGate {
 public:
  explicit ViewGate(CopyState* state) : state_(state) {}

  class Visit {
   public:
    explicit Visit(ViewGate* gate) : gate_(gate) {
      std::lock_guard lock(gate->mutex_);
      state_ = gate->state_;
      finished_ = gate->finished_;
      if (state_ != nullptr) gate->inside_++;
    }
    ~Visit() {
      if (state_ == nullptr) return;
      std::lock_guard lock(gate_->mutex_);
      if (--gate_->inside_ == 0) gate_->left_.notify_all();
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    // Null: the session is over. Else it is there as long as this is.
    CopyState* state() const { return state_; }
    // It is over because it was finished: all that was listed is in the target.
    bool finished() const { return finished_; }

   private:
    ViewGate* const gate_;
    CopyState* state_;
    bool finished_;
  };

  // Whoever waits inside was told before that it is over. Idempotent: the first word counts.
  void Shut(bool finished) {
    std::unique_lock lock(mutex_);
    if (state_ != nullptr) finished_ = finished;
    state_ = nullptr;
    left_.wait(lock, [this] { return inside_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable left_;
  CopyState* state_;
  uint32_t inside_ = 0;
  bool finished_ = false;
};

}  // namespace snapbak
