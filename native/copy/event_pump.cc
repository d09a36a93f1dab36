// SPDX-License-Identifier: MIT
// Takes the driver's events off the ring and hands them on.
#include "event_pump.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "../../kernel-module/core/snapbak_hints.h"

namespace snapbak {
namespace {

// Enough to make the lock and the kick cheap, few enough to keep the ring from filling.
constexpr uint32_t kBatch = 256;

// How long events may gather while nothing is short: a wake-up for each would cost the writers more
// than the capture itself does.
constexpr std::chrono::microseconds kNap(250);
constexpr uint32_t kNapSlots = 64;

}  // namespace

EventPump::EventPump(CopyState* state) : state_(state), ring_(state->memory->EventRing()) {
  captured_.reserve(kBatch);
  wanted_.reserve(kBatch);
  invalid_.reserve(kBatch);
}

void EventPump::Run() {
  bool busy = false;  // events came since the last nap
  while (!state_->stop.raised()) {
    if (snapbak_hints_ready(state_->memory->header(), hints_)) TakeHints();
    const int64_t ready = snapbak_ring_ready(&ring_);
    if (ready < 0 || (ready > 0 && !TakeBatch(static_cast<uint32_t>(ready)))) {
      state_->FailSession(NoticeKind::kBroken, -EPROTO, SNAPBAK_REASON_PROTOCOL);
      return;
    }
    if (ready > 0) {
      busy = true;
      continue;
    }
    if (std::exchange(busy, false) && NothingIsShort()) {
      (void)state_->stop.Sleep(kNap);
      continue;
    }
    if (!Look() || !Sleep()) return;
  }
}

// False: the driver broke the contract.
bool EventPump::TakeBatch(uint32_t ready) {
  captured_.clear();
  wanted_.clear();
  invalid_.clear();
  const uint32_t n = std::min(ready, kBatch);
  for (uint32_t i = 0; i < n; i++) {
    if (!Sort(snapbak_ring_get_event(&ring_, i))) return false;
  }
  // counted before a copier can be done with them
  state_->counters.captured += captured_.size();
  state_->counters.wanted += wanted_.size();
  state_->counters.safe += captured_.size() + invalid_.size();
  if (!state_->jobs.AddEvents(captured_, wanted_)) return false;
  snapbak_ring_release(&ring_, n);
  state_->KickIfWaiting();  // it may wait for room in the ring
  for (const snapbak_event& event : invalid_) state_->Invalid(event.block, event.error);
  return true;
}

bool EventPump::Sort(const snapbak_event& event) {
  if (event.block >= state_->nr_blocks) return false;
  // whoever has a block's content has cleared its bit before
  if (event.type != SNAPBAK_EVENT_WANTED && snapbak_bitmap_test(state_->memory->bitmap(), event.block)) {
    return false;
  }
  switch (event.type) {
    case SNAPBAK_EVENT_CAPTURED:
      captured_.push_back({event.block, event.slot});
      return event.slot < state_->memory->geometry().nr_slots;
    case SNAPBAK_EVENT_WANTED:
      wanted_.push_back(event.block);
      return true;
    case SNAPBAK_EVENT_INVALID:
      invalid_.push_back(event);
      return true;
    default:
      return false;
  }
}

// Slots for more than a nap, and no write that waits.
bool EventPump::NothingIsShort() const {
  const uint32_t total = state_->memory->geometry().nr_slots;
  const uint32_t spare = total - state_->jobs.slots_used();
  return spare >= std::max(total / 2, kNapSlots) &&
         snapbak_load_relaxed(&state_->memory->header()->driver_waiting) == 0;
}

// Whoever orders the sweep is told once, however many come before it has taken them.
void EventPump::TakeHints() {
  snapbak_extent hints[SNAPBAK_NR_HINTS];
  const uint32_t n = snapbak_hints_take(state_->memory->header(), &hints_, hints);
  if (state_->hints.Put(hints, n)) state_->notifier.Send(NoticeKind::kHint);
}

// Looks at the state. False: the session is over.
bool EventPump::Look() {
  const snapbak_shm* header = state_->memory->header();
  const uint32_t now = snapbak_load_acquire(&header->state);
  if (now == seen_state_) return true;
  seen_state_ = now;
  if (now == SNAPBAK_STATE_ARMED) state_->jobs.SetArmed();
  // Every listed block was copied, so no event of use can come; and a driver may keep its wake-up raised
  // from now on.
  if (now == SNAPBAK_STATE_FINISHED) {
    if (state_->IsComplete()) return false;
    // nobody said FINISH, and it captures no more
    state_->FailSession(NoticeKind::kBroken, -EPROTO, SNAPBAK_REASON_PROTOCOL);
    return false;
  }
  if (now != SNAPBAK_STATE_BROKEN) return true;
  state_->FailSession(NoticeKind::kBroken, snapbak_load_relaxed(&header->error),
                      snapbak_load_relaxed(&header->reason));
  return false;
}

// False: stopped, or the driver is gone.
bool EventPump::Sleep() {
  snapbak_shm* header = state_->memory->header();
  snapbak_store_relaxed(&header->library_asleep, 1);
  snapbak_full_fence();
  int error = 0;
  if (snapbak_ring_ready(&ring_) == 0 && !snapbak_hints_ready(header, hints_) &&
      snapbak_load_acquire(&header->state) == seen_state_) {
    error = state_->driver->WaitEvent(state_->stop.fd(), -1);
  }
  snapbak_store_relaxed(&header->library_asleep, 0);  // awake: the driver need not wake us
  if (error == 0 || error == -EINTR || error == -EAGAIN || error == -ETIMEDOUT) return true;
  if (error == -ECANCELED) return false;
  // after FINISH its going away is nobody's loss
  if (snapbak_load_acquire(&header->state) != SNAPBAK_STATE_FINISHED) {
    state_->FailSession(NoticeKind::kDriverGone, error, 0);
  }
  return false;
}

}  // namespace snapbak
