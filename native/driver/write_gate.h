// SPDX-License-Identifier: MIT
// Every write passes this gate; arming shuts it, waits for the writes inside,
// and opens it again. Entering costs one uncontended atomic addition and a
// load: the count is spread over cache lines by thread.
//
// A gate that is shut *for a time* (one half of an arming, the other half is
// somebody else's to come) needs no thread to watch over it: the writers that
// wait open it when the time is over.
//
// Order: a writer adds to its count, then looks at `shut_`; the shutter sets
// `shut_`, then looks at the counts; both sequentially consistent, so one of
// them sees the other.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

namespace snapbak {

class WriteGate {
 public:
  using Clock = std::chrono::steady_clock;

  // The right to be inside; gives it back when it goes.
  class Ticket {
   public:
    explicit Ticket(WriteGate* gate) : gate_(gate), shard_(gate->Enter()) {}
    // Does not wait: outside while the gate is shut.
    Ticket(WriteGate* gate, std::try_to_lock_t) : gate_(gate), shard_(gate->TryEnter()) {}
    ~Ticket() {
      if (inside()) gate_->Leave(shard_);
    }
    bool inside() const { return shard_ != kOutside; }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    WriteGate* gate_;
    uint32_t shard_;
  };

  // Keeps new writes out and waits until none is inside. -ETIMEDOUT: some were
  // still inside; -ECANCELED: `cancelled` said so first, which is asked whenever
  // Poke() was called; in both cases the gate is open again. One caller at a time.
  int Shut(std::chrono::nanoseconds timeout, const std::function<bool()>& cancelled);
  void Poke();
  // The same without a limit.
  void Shut();
  void Open();

  // As the first Shut(), but once nobody is inside it stays shut until `until` at
  // most: then a writer that waits opens it.
  int ShutUntil(Clock::time_point until, const std::function<bool()>& cancelled);
  // Of a gate that is shut for a time: from now on without a limit, as by Shut().
  // False: it is not shut for a time, or the time is over, and then it is open.
  bool KeepShut();
  // Opens a gate that is shut for a time; does nothing to another.
  void EndTime();

 private:
  static constexpr uint32_t kShards = 16;
  static constexpr uint32_t kOutside = kShards;
  struct alignas(64) Shard {
    std::atomic<uint32_t> inside{0};
  };

  uint32_t Enter();
  uint32_t TryEnter();  // kOutside: it is shut
  void Leave(uint32_t shard);
  bool Empty() const;
  int ShutLocked(std::unique_lock<std::mutex>* lock, Clock::time_point deadline,
                 const std::function<bool()>& cancelled);
  void OpenLocked();

  std::array<Shard, kShards> shards_;
  std::atomic<bool> shut_{false};
  std::mutex mutex_;  // for the two waits, and what follows
  // With shut_: since the last writer left, it is shut until then only.
  bool timed_ = false;
  Clock::time_point until_{};
  std::condition_variable opened_;
  std::condition_variable left_;
};

}  // namespace snapbak
