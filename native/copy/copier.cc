// SPDX-License-Identifier: MIT
// One copy thread: takes the best job there is and does it, until stopped.
#include "copier.h"

#include <cerrno>

namespace snapbak {

Copier::Copier(CopyState* state, AlignedBuffer* buffer)
    : state_(state), buffer_(buffer), writer_(state), sweep_(state, buffer, &writer_) {}

void Copier::Run() {
  Job job;
  while (state_->jobs.Take(&job)) {
    if (job.need_work) state_->notifier.Send(NoticeKind::kNeedWork);
    Do(job);
  }
}

void Copier::Do(const Job& job) {
  switch (job.kind) {
    case Job::Kind::kNone:
      return;
    case Job::Kind::kWanted:
      return ServeWanted(job.wanted);
    case Job::Kind::kCaptured:
      return DrainSlot(job.captured);
    case Job::Kind::kSpilled:
      return DrainPlace(job.spilled);
    case Job::Kind::kSweep:
      return sweep_.Copy(job.run);
  }
}

// A write is held for want of a slot. Its bit is still set, unless somebody was faster.
void Copier::ServeWanted(uint64_t block) {
  if (snapbak_bitmap_test(state_->memory->bitmap(), block)) sweep_.Copy({block, 1});
}

void Copier::DrainSlot(const CapturedBlock& captured) {
  if (writer_.Write(captured.block, 1, state_->memory->slot(captured.slot)) != 0) {
    state_->jobs.PutBack(captured);  // for the spiller, and for the account of slots
    return;
  }
  state_->ReturnSlot(captured.slot);
}

void Copier::DrainPlace(const SpilledBlock& spilled) {
  int error = ReadPlace(spilled);
  for (uint32_t retry = 0; error != 0 && retry < state_->options.tier2_retries; retry++) {
    if (state_->stop.Sleep(std::chrono::milliseconds(state_->options.tier2_retry_ms))) return;
    error = ReadPlace(spilled);
  }
  if (error != 0) {
    // The block is lost and so is the backup; the place is not used again, nor is any other of that tier.
    state_->GiveUpTier(spilled.where.tier, error);
    state_->notifier.Send(NoticeKind::kTier2Data, spilled.block, error, spilled.where.tier);
    return;
  }
  if (writer_.Write(spilled.block, 1, buffer_->data()) != 0) {
    state_->jobs.PutBack(spilled);
    return;
  }
  state_->tiers->Free(spilled.where);
  state_->jobs.PlaceFreed();
}

int Copier::ReadPlace(const SpilledBlock& spilled) {
  const int error = state_->tiers->Get(spilled.where, buffer_->data());
  if (error != 0) return error;
  return writer_.Checksum(spilled.block, buffer_->data()) == spilled.crc ? 0 : -EILSEQ;
}

}  // namespace snapbak
