// SPDX-License-Identifier: MIT
// The last step of every block: checksum, target, `checksums`, done.
#include "block_writer.h"

#include <algorithm>
#include <cerrno>

#include "crc32c.h"
#include "zero.h"

namespace snapbak {
namespace {

uint32_t CrcOfZeroes(uint64_t length) {
  const std::vector<uint8_t> zeroes(length);
  return Crc32c(0, zeroes.data(), zeroes.size());
}

}  // namespace

BlockWriter::BlockWriter(CopyState* state)
    : state_(state),
      zero_block_crc_(CrcOfZeroes(state->block_size)),
      zero_tail_crc_(CrcOfZeroes(state->BytesOf(state->nr_blocks - 1, 1))),
      crcs_(state->max_run_blocks()),
      zero_(state->max_run_blocks()) {}

uint32_t BlockWriter::ZeroChecksum(uint64_t block) const {
  return block == state_->nr_blocks - 1 ? zero_tail_crc_ : zero_block_crc_;
}

uint32_t BlockWriter::Checksum(uint64_t block, const uint8_t* data) const {
  return Crc32c(0, data, state_->BytesOf(block, 1));
}

int BlockWriter::Write(uint64_t first, uint64_t count, const uint8_t* data) {
  // Perhaps not the start instant's: views and a clone must not see it. A killed driver says nothing itself.
  if (!state_->IsCapturing()) return 0;
  if (state_->jobs.copiers_halted()) return -ECANCELED;
  const uint64_t block_size = state_->block_size;
  uint64_t zeroes = 0;
  for (uint64_t i = 0; i < count; i++) {
    const uint8_t* block = data + i * block_size;
    zero_[i] = IsZero(block, state_->BytesOf(first + i, 1));
    crcs_[i] = zero_[i] ? ZeroChecksum(first + i) : Checksum(first + i, block);
    zeroes += zero_[i];
  }

  for (uint64_t i = 0, next; i < count; i = next) {
    next = std::find_if(&zero_[i], &zero_[0] + count, [&](uint8_t zero) { return zero != zero_[i]; }) -
           &zero_[0];
    const uint64_t offset = (first + i) * block_size;
    const uint64_t length = state_->BytesOf(first + i, next - i);
    ToClone(first + i, next - i, zero_[i] ? nullptr : data + i * block_size);
    const int error = Retrying([&] {
      return zero_[i] ? state_->target->WriteZeroes(offset, length)
                      : state_->target->Write(offset, data + i * block_size, length);
    });
    if (error != 0) return error;
    if (!zero_[i]) state_->counters.written_bytes += length;
  }

  const int error = WriteChecksums(first, count);
  if (error == 0) state_->Done(first, count, zeroes);
  return error;
}

int BlockWriter::WriteHole(uint64_t first, uint64_t count) {
  if (!state_->IsCapturing()) return 0;
  if (state_->jobs.copiers_halted()) return -ECANCELED;
  ToClone(first, count, nullptr);
  int error = Retrying(
      [&] { return state_->target->WriteZeroes(first * state_->block_size, state_->BytesOf(first, count)); });
  if (error != 0) return error;
  for (uint64_t i = 0; i < count; i++) crcs_[i] = ZeroChecksum(first + i);
  error = WriteChecksums(first, count);
  if (error == 0) state_->Done(first, count, count);
  return error;
}

// Before the target: somebody may wait for it there. If the target fails, the clone is not to be had either.
void BlockWriter::ToClone(uint64_t first, uint64_t count, const uint8_t* data) {
  if (state_->clone == nullptr) return;
  state_->clone->Put(first, count, data);
  snapbak_full_fence();  // what readers look at before whether they wait
  state_->jobs.WakeReadersIfAny();
}

int BlockWriter::WriteChecksums(uint64_t first, uint64_t count) {
  if (state_->checksums == nullptr) return 0;
  return Retrying([&] { return state_->checksums->Put(first, crcs_.data(), static_cast<uint32_t>(count)); });
}

// Room may come back, a network may: tries again, more and more slowly, and gives up for everybody.
template <typename Step>
int BlockWriter::Retrying(Step step) {
  if (state_->jobs.copiers_halted()) return -ECANCELED;
  int error = step();
  std::chrono::milliseconds pause(state_->options.target_retry_ms);
  for (uint32_t retry = 0; error != 0 && retry < state_->options.target_retries; retry++) {
    if (state_->stop.Sleep(pause) || state_->jobs.copiers_halted()) return -ECANCELED;
    pause *= 2;
    error = step();
  }
  if (error != 0) state_->FailTarget(error);
  return error;
}

}  // namespace snapbak
