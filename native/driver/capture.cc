// SPDX-License-Identifier: MIT
#include "capture.h"

#include <errno.h>
#include <sys/uio.h>

#include <algorithm>

#include "../../kernel-module/core/snapbak_histogram.h"
#include "../../kernel-module/core/snapbak_throttle.h"
#include "wake.h"

namespace snapbak {

namespace {

// Blocks that one write captures with one read; a longer write takes several rounds.
constexpr uint64_t kMaxRun = 64;

uint64_t Nanoseconds(std::chrono::steady_clock::duration d) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(d).count());
}

}  // namespace

void Capture::CountTime(const Times& times, Clock::time_point began, uint64_t n) {
  const uint64_t ns = Nanoseconds(Clock::now() - began);
  Count(times.sum, ns * n);
  snapbak_shm* header = memory_->header();
  __atomic_fetch_add(&header->histograms[times.histogram][snapbak_histogram_bucket(ns)], n, __ATOMIC_RELAXED);
  __u64* longest = &header->counters[times.longest];
  __u64 seen = __atomic_load_n(longest, __ATOMIC_RELAXED);
  while (seen < ns &&
         !__atomic_compare_exchange_n(longest, &seen, ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

void Capture::CountRequest(Clock::time_point arrived) {
  Count(SNAPBAK_C_IO);
  Count(SNAPBAK_C_IO_NS, Nanoseconds(Clock::now() - arrived));
}

Capture::Capture(LowerDevice* lower, SharedMemory* memory, int wake_fd, const Policy& policy)
    : lower_(lower),
      memory_(memory),
      bitmap_(memory->bitmap()),
      block_shift_(memory->geometry().block_shift),
      wake_fd_(wake_fd),
      policy_(policy),
      pool_(memory) {}

void Capture::MakeSafe(uint64_t offset, uint64_t length) {
  const uint64_t first = offset >> block_shift_;
  const uint64_t end = ((offset + length - 1) >> block_shift_) + 1;

  // The way of most writes: every bit clear and nothing in flight nearby.
  uint64_t block = snapbak_bitmap_next_set(bitmap_, first, end);
  if (block == end) {
    bool idle = true;
    for (uint64_t b = first; b < end && idle; ++b) idle = inflight_.Idle(b);
    if (idle) return;
  }

  Passage passage;
  while (block < end && !over()) {
    const uint64_t run_end = snapbak_bitmap_next_clear(bitmap_, block, std::min(end, block + kMaxRun));
    // Never looked at twice once captured: a library that sets bits again cannot keep us here.
    block = snapbak_bitmap_next_set(bitmap_, CaptureRun(block, run_end, &passage), end);
  }
  if (passage.granted) UseGrant(&passage);
  if (broken()) return;
  // Blocks that other writes claimed; we own none any more.
  if (inflight_.Wait(first, end)) Count(SNAPBAK_C_WAITED);
}

// Captures what it can of [first, end), all pending a moment ago, or holds the
// write until it is worth another look. Returns the block to go on from: every
// one before it is safe, or in another write's hands.
uint64_t Capture::CaptureRun(uint64_t first, uint64_t end, Passage* passage) {
  Delay(end - first, passage);
  passage->slots.clear();
  passage->events.clear();
  const int taken = pool_.Take(static_cast<uint32_t>(end - first), &passage->slots);
  if (passage->granted) UseGrant(passage);
  if (taken < 0) {
    Count(SNAPBAK_C_PROTOCOL_ERRORS);
    Break(SNAPBAK_REASON_PROTOCOL, taken);
    return first;
  }
  if (taken == 0) {
    Hold(first, passage);
    return first;
  }

  const Clock::time_point began = Clock::now();
  size_t used = 0;
  uint64_t block = first;
  for (; block < end && used < passage->slots.size(); ++block) {
    if (!inflight_.Claim(bitmap_, block)) continue;
    snapbak_event event{};
    event.block = block;
    event.slot = passage->slots[used++];
    event.type = SNAPBAK_EVENT_CAPTURED;
    passage->events.push_back(event);
  }
  if (used < passage->slots.size()) {
    pool_.PutBack(passage->slots.data() + used, passage->slots.size() - used);
    Kick();  // a write that found none of them free may be held by now, and the library knows nothing of them
  }
  if (passage->events.empty()) return block;

  ReadBlocks(passage);
  uint64_t captured = 0;
  for (const snapbak_event& event : passage->events) captured += event.type == SNAPBAK_EVENT_CAPTURED;
  if (captured > 0) Count(SNAPBAK_C_CAPTURED, captured);
  if (captured < passage->events.size()) Count(SNAPBAK_C_INVALID, passage->events.size() - captured);

  // Published before the blocks leave the table: a write that finds a block
  // neither pending nor in flight may rely on its event being on its way.
  pool_.Publish(passage->events.data(), passage->events.size());
  for (const snapbak_event& event : passage->events) inflight_.Remove(event.block);
  __atomic_store_n(&memory_->header()->counters[SNAPBAK_C_SLOTS_USED], pool_.used(), __ATOMIC_RELAXED);
  CountTime({SNAPBAK_H_CAPTURE, SNAPBAK_C_CAPTURE_NS, SNAPBAK_C_CAPTURE_MAX_NS}, began,
            passage->events.size());
  WakeLibrary();
  return block;
}

// Reads the blocks of the passage's events into their slots: neighbours with
// one read, and one by one where that fails, so that one bad sector makes one
// invalid block.
void Capture::ReadBlocks(Passage* passage) {
  std::vector<snapbak_event>& events = passage->events;
  struct iovec iov[kMaxRun];
  for (size_t begin = 0; begin < events.size();) {
    size_t count = 0;
    do {
      snapbak_event& event = events[begin + count];
      iov[count].iov_base = memory_->slot(event.slot);
      iov[count].iov_len = memory_->block_bytes(event.block);
      ++count;
    } while (begin + count < events.size() && count < kMaxRun &&
             events[begin + count].block == events[begin].block + count);
    int ret = lower_->ReadV(iov, static_cast<int>(count), events[begin].block << block_shift_);
    if (ret != 0) {
      for (size_t i = begin; i < begin + count; ++i) {
        snapbak_event& event = events[i];
        if (count > 1) {
          ret = lower_->Read(memory_->slot(event.slot), memory_->block_bytes(event.block),
                             event.block << block_shift_);
        }
        if (ret != 0) {
          event.type = SNAPBAK_EVENT_INVALID;
          event.error = static_cast<__s16>(ret);
        }
      }
    }
    begin += count;
  }
}

// With hold_mutex_ held.
void Capture::StoreHolding() {
  const auto holding = static_cast<__u32>(queue_.size());
  snapbak_store_relaxed(&memory_->header()->driver_waiting, holding);
  __atomic_store_n(&memory_->header()->counters[SNAPBAK_C_HELD_NOW], holding, __ATOMIC_RELAXED);
}

// With hold_mutex_ held: may a write that holds for `block` try again? Free
// slots are for those who are held longest.
bool Capture::WorthALook(uint64_t block, const Passage* passage) {
  if (over() || !snapbak_bitmap_test(bitmap_, block)) return true;
  int available = pool_.Available();
  if (available < 0) return true;  // an error is found again, and handled, by the next Take
  available -= static_cast<int>(granted_);
  for (auto it = queue_.begin(); it != queue_.end() && available > 0; ++it, --available) {
    if (it->second == passage) return true;
  }
  return false;
}

// With hold_mutex_ held, by a held write: has the library made no progress for too long?
bool Capture::Stalled(Clock::time_point now) {
  const uint64_t heartbeat = __atomic_load_n(&memory_->header()->heartbeat, __ATOMIC_RELAXED);
  if (heartbeat != heartbeat_) {
    heartbeat_ = heartbeat;
    heartbeat_at_ = now;
  }
  return policy_.stall_timeout.count() > 0 && now - heartbeat_at_ >= policy_.stall_timeout;
}

// Keeps the write back until `block` is no longer pending, a slot is free, or
// the session is broken. The bit stays set: the sweep takes the block first.
void Capture::Hold(uint64_t block, Passage* passage) {
  const Clock::time_point began = Clock::now();
  if (passage->held_since == Clock::time_point::max()) {
    passage->held_since = began;
    Count(SNAPBAK_C_HELD);
  }
  const Clock::time_point deadline = policy_.on_full == SNAPBAK_ON_FULL_HOLD
                                         ? Clock::time_point::max()
                                         : passage->held_since + policy_.hold_timeout;
  Clock::time_point now = began;
  uint32_t reason = SNAPBAK_REASON_NONE;
  {
    std::unique_lock<std::mutex> lock(hold_mutex_);
    if (queue_.empty()) heartbeat_at_ = began;  // nobody looked for a while
    const auto place = queue_.emplace(passage->held_since, passage).first;
    StoreHolding();
    Held& held = held_[block];
    ++held.writes;
    // From here on the library kicks after what it does; what it did before, we
    // see when we look now.
    snapbak_full_fence();
    // A write whose time was over before this look had one more after it: bits
    // and slots that come and go keep nobody for ever.
    while ((began >= deadline && !over()) || !WorthALook(block, passage)) {
      if (now >= deadline) {
        reason = SNAPBAK_REASON_HOLD_TIMEOUT;
        break;
      }
      if (Stalled(now)) {
        reason = SNAPBAK_REASON_STALLED;
        break;
      }
      if (!held.wanted) {
        snapbak_event event{};
        event.block = block;
        event.type = SNAPBAK_EVENT_WANTED;
        // No room: the library kicks when it has taken events, and we try again.
        held.wanted = pool_.TryPublish(event);
        if (held.wanted) Count(SNAPBAK_C_WANTED);
        WakeLibrary();
      }
      Clock::time_point next = deadline;
      if (policy_.stall_timeout.count() > 0) next = std::min(next, heartbeat_at_ + policy_.stall_timeout);
      if (next == Clock::time_point::max()) {
        kicked_.wait(lock);
      } else {
        kicked_.wait_until(lock, next);
      }
      now = Clock::now();
    }
    if (--held.writes == 0) held_.erase(block);
    queue_.erase(place);
    StoreHolding();
    // it goes for a slot, unless it needs none any more
    passage->granted = reason == SNAPBAK_REASON_NONE && !over() && snapbak_bitmap_test(bitmap_, block);
    if (passage->granted) ++granted_;
  }
  CountTime({SNAPBAK_H_HOLD, SNAPBAK_C_HELD_NS, SNAPBAK_C_HELD_MAX_NS}, began);
  if (reason != SNAPBAK_REASON_NONE) Break(reason, -ETIMEDOUT);
}

// A write that was held has tried for its slot; what it did not need is the next one's.
void Capture::UseGrant(Passage* passage) {
  passage->granted = false;
  std::lock_guard<std::mutex> lock(hold_mutex_);
  --granted_;
  if (!queue_.empty()) kicked_.notify_all();
}

// Slows the write down as the throttle says, once a write.
void Capture::Delay(uint64_t blocks, Passage* passage) {
  const snapbak_shm* header = memory_->header();
  snapbak_throttle throttle{};
  throttle.begin = snapbak_load_relaxed(&header->throttle_begin);
  if (throttle.begin == 0 || passage->delayed) return;
  throttle.full = snapbak_load_relaxed(&header->throttle_full);
  throttle.rate = snapbak_load_relaxed(&header->throttle_rate);
  throttle.max_us = snapbak_load_relaxed(&header->throttle_max_us);
  throttle.block_size = 1u << block_shift_;
  const uint32_t interval = snapbak_throttle_interval_us(&throttle, pool_.used());
  if (interval == 0) return;
  passage->delayed = true;
  Count(SNAPBAK_C_DELAYED);
  Count(SNAPBAK_C_DELAYED_NOW);
  const Clock::time_point began = Clock::now();
  {
    std::unique_lock<std::mutex> lock(hold_mutex_);
    const uint64_t depart = snapbak_throttle_depart_ns(
        &next_departure_, Nanoseconds(began.time_since_epoch()), interval, blocks, throttle.max_us);
    const Clock::time_point until{std::chrono::nanoseconds(depart)};
    while (!over() && departures_.wait_until(lock, until) != std::cv_status::timeout) {
    }
  }
  Count(SNAPBAK_C_DELAYED_NOW, -1);
  CountTime({SNAPBAK_H_DELAY, SNAPBAK_C_DELAYED_NS, SNAPBAK_C_DELAYED_MAX_NS}, began);
}

int Capture::ForDiscardable(uint64_t offset, uint64_t length,
                            const std::function<int(uint64_t, uint64_t)>& discard) {
  const uint64_t end_byte = offset + length;
  const uint64_t end = ((end_byte - 1) >> block_shift_) + 1;
  uint64_t block = offset >> block_shift_;
  bool dropped = false;
  int result = 0;
  while (block < end && result == 0) {
    const uint64_t clear = snapbak_bitmap_next_clear(bitmap_, block, end);
    dropped = dropped || clear > block;
    const uint64_t pending = snapbak_bitmap_next_set(bitmap_, clear, end);
    if (pending > clear) {
      // Bits stay clear once they are; only captures under way need a wait.
      inflight_.Wait(clear, pending);
      const uint64_t from = std::max(offset, clear << block_shift_);
      const uint64_t to = std::min(end_byte, pending << block_shift_);
      result = discard(from, to - from);
    }
    block = pending;
  }
  if (dropped) Count(SNAPBAK_C_DISCARDS_DROPPED);
  return result;
}

void Capture::Kick() {
  {
    // Orders us with a write between its look and its wait.
    std::lock_guard<std::mutex> lock(hold_mutex_);
  }
  kicked_.notify_all();
}

void Capture::Break(uint32_t reason, int error) {
  {
    std::lock_guard<std::mutex> lock(hold_mutex_);
    if (broken_.load(std::memory_order_relaxed)) return;
    snapbak_shm* header = memory_->header();
    snapbak_store_relaxed(&header->reason, reason);
    snapbak_store_relaxed(&header->error, error);
    snapbak_store_release(&header->state, static_cast<__u32>(SNAPBAK_STATE_BROKEN));
    broken_.store(true, std::memory_order_release);
  }
  kicked_.notify_all();
  departures_.notify_all();
  WakeLibrary();
}

void Capture::LetGo() {
  {
    // Orders us with a write between its look and its wait.
    std::lock_guard<std::mutex> lock(hold_mutex_);
    let_go_.store(true, std::memory_order_release);
  }
  kicked_.notify_all();
  departures_.notify_all();
}

void Capture::WakeLibrary() {
  snapbak_full_fence();
  snapbak_shm* header = memory_->header();
  if (snapbak_load_relaxed(&header->library_asleep) == 0) return;
  if (snapbak_exchange(&header->library_asleep, 0) == 0) return;
  Wake(wake_fd_);
}

}  // namespace snapbak
