// SPDX-License-Identifier: MIT
// What the threads of one copy session share.
#include "copy_state.h"

#include <algorithm>
#include <cerrno>

namespace snapbak {

CopyState::CopyState(Driver* driver_in, SharedMemory* memory_in, LowerView lower_in, Target* target_in,
                     Tier2Set* tiers_in, ChecksumFile* checksums_in, const CopyOptions& options_in,
                     std::function<void(const Notice&)> notify)
    : driver(driver_in),
      memory(memory_in),
      lower{std::move(lower_in.fd), std::max(lower_in.sector_size, 1u), lower_in.offset},
      target(target_in),
      tiers(tiers_in),
      checksums(checksums_in),
      options(options_in),
      nr_blocks(memory_in->geometry().nr_blocks),
      block_size(1u << memory_in->geometry().block_shift),
      fates(std::make_shared<BlockFates>()),
      view_gate(std::make_shared<ViewGate>(this)),
      notifier(std::move(notify)),
      hints(memory_in->geometry().origin_size),
      max_run_blocks_(std::max(options_in.read_bytes / block_size, 1u)),
      jobs(memory_in->bitmap(), nr_blocks, block_size, memory_in->geometry().nr_slots, tiers_in, &counters,
           max_run_blocks_, options_in.watermark_low),
      free_slots(memory_in, options_in.drain_to) {}

uint64_t CopyState::BytesOf(uint64_t first, uint64_t count) const {
  const uint64_t begin = first * block_size;
  return std::min<uint64_t>(count * block_size, memory->geometry().origin_size - begin);
}

void CopyState::KickIfWaiting() {
  snapbak_full_fence();
  if (snapbak_load_relaxed(&memory->header()->driver_waiting) != 0) driver->Kick();
}

void CopyState::Progress() { __atomic_fetch_add(&memory->header()->heartbeat, 1, __ATOMIC_RELAXED); }

bool CopyState::IsCapturing() const {
  snapbak_full_fence();  // the bytes, and the bits, before the state
  // captures may come before START has said that it is armed
  return snapbak_load_acquire(&memory->header()->state) < SNAPBAK_STATE_FINISHED;
}

void CopyState::Done(uint64_t first, uint64_t count, uint64_t zero) {
  fates->SetDone(first, count);
  counters.zero += zero;
  counters.done += count;
  Progress();
  jobs.WakeReadersIfAny();
  Settle(count);
}

void CopyState::Invalid(uint64_t block, int error) {
  if (fates->AllocateAbsent() != 0) return FailTarget(-ENOMEM);
  if (clone != nullptr) clone->Invalid(block);
  fates->SetInvalid(block);
  jobs.WakeReadersIfAny();
  counters.invalid++;
  notifier.Send(NoticeKind::kInvalid, block, error);
  Progress();
  Settle(1);
}

// Every block is settled once, by whoever owned it, and the list only gets shorter, by blocks that are never
// settled. So the sum is at most the list at any time, and equal to an older or a later look at it only when
// all is done. Who settles adds and then looks at the list; who unlists takes away and then looks at the sum:
// the last of them sees it. The notice is sent once, whoever sees it.
void CopyState::Settle(uint64_t count) {
  if (counters.settled.fetch_add(count) + count == counters.listed) notifier.Send(NoticeKind::kComplete);
}

void CopyState::Unlisted(uint64_t count) {
  if (count == 0) return;
  const uint64_t listed = counters.listed.fetch_sub(count) - count;
  if (counters.settled == listed) notifier.Send(NoticeKind::kComplete);
}

void CopyState::ReturnSlot(uint32_t slot) {
  const uint32_t used = jobs.SlotReturned(slot);  // first: once it is published, the driver may send it again
  if (!free_slots.Return(slot, used)) {
    FailSession(NoticeKind::kBroken, -EPROTO, SNAPBAK_REASON_PROTOCOL);
    return;
  }
  KickIfWaiting();
}

// A delay is computed from what is read at that moment; a mixture of two settings is as good as either.
void CopyState::SetThrottle(const snapbak_throttle& throttle) {
  snapbak_shm* header = memory->header();
  snapbak_store_relaxed(&header->throttle_rate, throttle.rate);
  snapbak_store_relaxed(&header->throttle_max_us, throttle.max_us);
  snapbak_store_relaxed(&header->throttle_full, throttle.full);
  snapbak_store_relaxed(&header->throttle_begin, throttle.begin);
}

void CopyState::GiveUpTier(uint32_t tier, int error) {
  if (!tiers->at(tier).GiveUp()) return;
  jobs.TierChanged(tier);
  notifier.Send(NoticeKind::kTier2Lost, 0, error, tier);
}

void CopyState::FailTarget(int error) {
  jobs.HaltCopiers();
  notifier.Send(NoticeKind::kTargetError, 0, error);
}

void CopyState::FailSession(NoticeKind kind, int error, uint32_t reason) {
  jobs.HaltAll();
  notifier.Send(kind, 0, error, reason);
}

}  // namespace snapbak
