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
    opened_.wait(lock, [this] { return !shut_.load(std::memory_order_seq_cst); });
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
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::unique_lock<std::mutex> lock(mutex_);
  shut_.store(true, std::memory_order_seq_cst);
  bool gone = false;
  const bool woken = left_.wait_until(lock, deadline, [&] {
    gone = cancelled();
    return gone || Empty();
  });
  if (woken && !gone) return 0;
  lock.unlock();
  Open();
  return gone ? -ECANCELED : -ETIMEDOUT;
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
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_.store(false, std::memory_order_seq_cst);
  }
  opened_.notify_all();
}

}  // namespace snapbak
