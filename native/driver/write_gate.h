// SPDX-License-Identifier: MIT
// Every write passes this gate; arming shuts it, waits for the writes inside,
// and opens it again. Entering costs one uncontended atomic addition and a
// load: the count is spread over cache lines by thread.
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

  std::array<Shard, kShards> shards_;
  std::atomic<bool> shut_{false};
  std::mutex mutex_;  // for the two waits only
  std::condition_variable opened_;
  std::condition_variable left_;
};

}  // namespace snapbak
