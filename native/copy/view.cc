// SPDX-License-Identifier: MIT
// The point-in-time view of a session.
#include "view.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "copy_state.h"
#include "file_io.h"

namespace snapbak {
namespace {

// The most that is read from the lower device at once: what is captured meanwhile is read again elsewhere.
constexpr size_t kMaxRead = 1u << 20;

bool IsDirect(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0;
}

bool IsOver(const CopyState& state) {
  const uint32_t now = snapbak_load_acquire(&state.memory->header()->state);
  return (now != SNAPBAK_STATE_ARMED && now != SNAPBAK_STATE_FINISHED) || state.jobs.copiers_halted();
}

}  // namespace

PointInTimeView::PointInTimeView(const CopyState& state, std::shared_ptr<Target> target)
    : size_(state.memory->geometry().origin_size),
      block_size_(state.block_size),
      direct_(IsDirect(state.lower.fd.get())),
      gate_(state.view_gate),
      sources_{std::move(target), state.fates} {}

PointInTimeView::Sources PointInTimeView::Hold() {
  std::lock_guard lock(mutex_);
  return sources_;
}

int PointInTimeView::Read(uint64_t offset, void* data, size_t length) {
  if (offset > size_ || length > size_ - offset) return -EINVAL;
  const Sources sources = Hold();
  if (sources.target == nullptr) return -ESHUTDOWN;
  Piece piece{offset, static_cast<uint8_t*>(data), length};
  while (piece.length > 0) {
    const int64_t read = ReadSome(sources, piece);
    if (read < 0) return static_cast<int>(read);
    piece.offset += static_cast<uint64_t>(read);
    piece.data += read;
    piece.length -= static_cast<size_t>(read);
  }
  return 0;
}

// Bytes of the piece that lie before `end_block`.
size_t PointInTimeView::BytesBefore(const Piece& piece, uint64_t end_block) const {
  return static_cast<size_t>(std::min<uint64_t>(piece.length, end_block * block_size_ - piece.offset));
}

// Reads a part of the piece, from its beginning on. Bytes, 0 for "look again", or -errno.
int64_t PointInTimeView::ReadSome(const Sources& sources, const Piece& piece) {
  if (shut_) return -ESHUTDOWN;
  const uint64_t block = piece.offset / block_size_;
  const uint64_t end = (piece.offset + piece.length - 1) / block_size_ + 1;
  Fate fate;
  {
    const ViewGate::Visit visit(gate_.get());
    if (visit.state() == nullptr ? !visit.finished() : IsOver(*visit.state())) return -ESHUTDOWN;
    fate = sources.fates->Of(block);
    if (fate == Fate::kOpen) {
      return visit.state() == nullptr ? -ESHUTDOWN : ReadOpen(sources, visit.state(), piece);
    }
  }
  // settled for good: no session is needed
  if (fate == Fate::kInvalid) return -EIO;
  const size_t length = BytesBefore(piece, sources.fates->RunEnd(block, end));
  if (fate == Fate::kDone) {
    const int error = ReadTarget(sources, {piece.offset, piece.data, length});
    if (error != 0) return error;
  } else {
    std::memset(piece.data, 0, length);
  }
  return static_cast<int64_t>(length);
}

int64_t PointInTimeView::ReadOpen(const Sources& sources, CopyState* state, const Piece& piece) {
  const uint64_t block = piece.offset / block_size_;
  const uint64_t end = (piece.offset + std::min(piece.length, kMaxRead) - 1) / block_size_ + 1;
  const uint64_t pending = snapbak_bitmap_next_clear(state->memory->bitmap(), block, end);
  if (pending == block) return Await(sources, state, piece);
  const int64_t read = ReadPending(state, piece, pending);
  // a sector among them cannot be read: the other blocks can
  if (read < 0 && read != -ESHUTDOWN && pending > block + 1) return ReadPending(state, piece, block + 1);
  return read;
}

// Read first, look after: the sweep's half of the claim protocol without the claim. A block whose bit is
// still set after the read cannot have been written before it: a write is released after the bit was cleared.
int64_t PointInTimeView::ReadPending(CopyState* state, const Piece& piece, uint64_t end_block) {
  const size_t length = BytesBefore(piece, end_block);
  const int error = ReadLower(state, {piece.offset, piece.data, length});
  snapbak_full_fence();  // the bytes before the bits
  const uint64_t good =
      snapbak_bitmap_next_clear(state->memory->bitmap(), piece.offset / block_size_, end_block);
  if (good == piece.offset / block_size_) return 0;  // captured meanwhile, whatever the read said
  // a driver that was killed meanwhile says nothing itself
  if (!state->IsCapturing() || state->jobs.copiers_halted()) return -ESHUTDOWN;
  if (error != 0) return error == -ENODATA ? -EIO : error;
  return static_cast<int64_t>(BytesBefore(piece, good));
}

int PointInTimeView::ReadLower(CopyState* state, const Piece& piece) {
  const int fd = state->lower.fd.get();
  const uint64_t offset = state->lower.offset + piece.offset;
  if (!direct_) return ReadAll(fd, piece.data, piece.length, offset);

  AlignedBuffer buffer;
  {
    std::lock_guard lock(mutex_);
    if (!spare_.empty()) {
      buffer = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  const uint64_t sector = state->lower.sector_size;
  const uint64_t before = offset % sector;
  const size_t needed = before + piece.length;
  int error = 0;
  if (buffer.data() == nullptr) error = buffer.Allocate(kMaxRead + block_size_ + 2 * sector);
  if (error == 0) {
    error = ReadAtLeast(fd, buffer.data(), (needed + sector - 1) / sector * sector, needed, offset - before);
  }
  if (error == 0) std::memcpy(piece.data, buffer.data() + before, piece.length);
  std::lock_guard lock(mutex_);
  if (buffer.data() != nullptr && sources_.target != nullptr) spare_.push_back(std::move(buffer));
  return error;
}

// Not pending, and not settled: waits for it, or finds it in a slot.
int64_t PointInTimeView::Await(const Sources& sources, CopyState* state, const Piece& piece) {
  const uint64_t block = piece.offset / block_size_;
  const size_t length = BytesBefore(piece, block + 1);
  const auto found = state->jobs.AwaitBlock(
      block, [&] { return shut_ || sources.fates->Of(block) != Fate::kOpen; },
      [&](uint32_t slot) {
        std::memcpy(piece.data, state->memory->slot(slot) + piece.offset % block_size_, length);
      });
  switch (found) {
    case JobQueue::Found::kInSlot:
      return state->IsCapturing() ? static_cast<int64_t>(length) : -ESHUTDOWN;
    case JobQueue::Found::kSettled:
      return 0;
    case JobQueue::Found::kOver:
      break;
  }
  return -ESHUTDOWN;
}

int PointInTimeView::ReadTarget(const Sources& sources, const Piece& piece) {
  int error;
  do {
    error = sources.target->Read(piece.offset, piece.data, piece.length, shut_);
  } while (error == -ECANCELED && !shut_);  // another view was shut
  return error == -ECANCELED ? -ESHUTDOWN : error;
}

void PointInTimeView::Shutdown() {
  shut_ = true;  // before: a read that is about to begin sees it
  const Sources sources = Hold();
  if (sources.target != nullptr) sources.target->CancelReads();
  const ViewGate::Visit visit(gate_.get());
  if (visit.state() != nullptr) visit.state()->jobs.WakeReaders();
}

void PointInTimeView::Close() {
  Sources sources;  // goes after the lock: that may close a file
  std::vector<AlignedBuffer> spare;
  std::lock_guard lock(mutex_);
  std::swap(sources, sources_);
  spare.swap(spare_);
}

}  // namespace snapbak
