// SPDX-License-Identifier: MIT
// The library's half of the claim protocol.
#include "sweep.h"

#include "claim.h"
#include "file_io.h"

namespace snapbak {

Sweep::Sweep(CopyState* state, AlignedBuffer* buffer, BlockWriter* writer)
    : state_(state), buffer_(buffer), writer_(writer), holes_(state->lower.fd.get()) {
  ours_.reserve(state->max_run_blocks() / 2 + 1);
}

void Sweep::Copy(BlockRun run) {
  // A hole is as good as bytes read: a pending block has not changed since the start instant.
  const bool hole = holes_.IsHole(OnLower(run), state_->BytesOf(run.first, run.count));
  if (!hole) {
    const int error = Read(run);
    if (error != 0) return CopyOneByOne(run, error);
  }
  Claim(run);
  WriteClaimed(run, hole);
}

uint64_t Sweep::OnLower(BlockRun run) const { return state_->lower.offset + run.first * state_->block_size; }

int Sweep::Read(BlockRun run) {
  const uint64_t needed = state_->BytesOf(run.first, run.count);
  // whole sectors, for direct I/O; the buffer is whole blocks
  const uint64_t sector = state_->lower.sector_size;
  const uint64_t length = (needed + sector - 1) / sector * sector;
  const int error = ReadAtLeast(state_->lower.fd.get(), buffer_->data(), length, needed, OnLower(run));
  if (error == 0) state_->counters.read_bytes += needed;
  return error;
}

void Sweep::Claim(BlockRun run) {
  ours_.clear();
  const uint64_t claimed = ClaimPending(state_->memory->bitmap(), run, &ours_);
  // before anything slow: a held write of one of these blocks may go on now
  state_->KickIfWaiting();
  state_->counters.swept += claimed;
  state_->counters.safe += claimed;
}

void Sweep::WriteClaimed(BlockRun run, bool hole) {
  uint64_t kept = 0;
  for (const BlockRun& part : ours_) {
    kept += state_->BytesOf(part.first, part.count);
    const uint8_t* data = buffer_->data() + (part.first - run.first) * state_->block_size;
    const int error =
        hole ? writer_->WriteHole(part.first, part.count) : writer_->Write(part.first, part.count, data);
    if (error != 0) return;
  }
  if (!hole) state_->counters.dropped_bytes += state_->BytesOf(run.first, run.count) - kept;
}

// Some block of the run cannot be read: the others can. A bad block that is not ours was captured.
void Sweep::CopyOneByOne(BlockRun run, int error) {
  if (run.count == 1) {
    Claim(run);
    if (!ours_.empty()) state_->Invalid(run.first, error);
    return;
  }
  for (uint64_t i = 0; i < run.count && !state_->stop.raised(); i++) {
    if (snapbak_bitmap_test(state_->memory->bitmap(), run.first + i)) Copy({run.first + i, 1});
  }
}

}  // namespace snapbak
