// SPDX-License-Identifier: MIT
#include "write_gate.h"

#include <errno.h>

namespace snapbak {

namespace {

uint32_t ThreadNumber() {
  static std::atomic<uint32_t> next{0};
  thread_local const uint32_t mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

}  // namespace

uint32_t WriteGate::TryEnter() {
  const uint32_t shard = ThreadNumber() % kShards;
  shards_[shard].inside.fetch_add(1, std::memory_order_seq_cst);
  if (!shut_.load(std::memory_order_seq_cst)) return shard;
  Leave(shard);
  return kOutside;
}

uint32_t WriteGate::Enter() {
  for (;;) {
    const uint32_t shard = TryEnter();
    if (shard != kOutside) return shard;
    std::unique_lock<std::mutex> lock(mutex_);
    while (shut_.load(std::memory_order_seq_cst)) {
      if (!timed_) {
        opened_.wait(lock);
      } else if (Clock::now() >= until_) {
        OpenLocked();
      } else {
        opened_.wait_until(lock, until_);
      }
    }
  }
}

void WriteGate::Leave(uint32_t shard) {
  shards_[shard].inside.fetch_sub(1, std::memory_order_seq_cst);
  if (shut_.load(std::memory_order_seq_cst)) {
    // The empty critical section orders us with a shutter between its look and its wait.
    { std::lock_guard<std::mutex> lock(mutex_); }
    left_.notify_all();
  }
}

bool WriteGate::Empty() const {
  for (const Shard& shard : shards_) {
    if (shard.inside.load(std::memory_order_seq_cst) != 0) return false;
  }
  return true;
}

int WriteGate::Shut(std::chrono::nanoseconds timeout, const std::function<bool()>& cancelled) {
  const Clock::time_point deadline = Clock::now() + timeout;
  std::unique_lock<std::mutex> lock(mutex_);
  return ShutLocked(&lock, deadline, cancelled);
}

int WriteGate::ShutLocked(std::unique_lock<std::mutex>* lock, Clock::time_point deadline,
                          const std::function<bool()>& cancelled) {
  shut_.store(true, std::memory_order_seq_cst);
  bool gone = false;
  const bool woken = left_.wait_until(*lock, deadline, [&] {
    gone = cancelled();
    return gone || Empty();
  });
  if (woken && !gone) return 0;
  OpenLocked();
  return gone ? -ECANCELED : -ETIMEDOUT;
}

int WriteGate::ShutUntil(Clock::time_point until, const std::function<bool()>& cancelled) {
  std::unique_lock<std::mutex> lock(mutex_);
  const int ret = ShutLocked(&lock, until, cancelled);
  if (ret != 0) return ret;
  timed_ = true;
  until_ = until;
  // Writers that came meanwhile wait without a limit so far.
  opened_.notify_all();
  return 0;
}

bool WriteGate::KeepShut() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!timed_) return false;
  if (Clock::now() >= until_) {
    OpenLocked();
    return false;
  }
  timed_ = false;
  return true;
}

void WriteGate::EndTime() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (timed_) OpenLocked();
}

void WriteGate::Poke() {
  { std::lock_guard<std::mutex> lock(mutex_); }
  left_.notify_all();
}

void WriteGate::Shut() {
  std::unique_lock<std::mutex> lock(mutex_);
  shut_.store(true, std::memory_order_seq_cst);
  left_.wait(lock, [this] { return Empty(); });
}

void WriteGate::Open() {
  std::lock_guard<std::mutex> lock(mutex_);
  OpenLocked();
}

// With mutex_ held.
void WriteGate::OpenLocked() {
  timed_ = false;
  shut_.store(false, std::memory_order_seq_cst);
  opened_.notify_all();
}

}  // namespace snapbak
