// SPDX-License-Identifier: MIT
// Places of the second tier. The spiller puts captured blocks here when slots
// run short; copiers get them back when the target has caught up.
#include "tier2.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <new>
#include <utility>

#include "file_io.h"

namespace snapbak {
namespace {

constexpr uint64_t kWordBits = 64;

uint64_t WordsFor(uint64_t places) { return (places + kWordBits - 1) / kWordBits; }

}  // namespace

Tier2::Tier2(UniqueFd fd, bool direct, const std::vector<Extent>& areas, uint32_t block_size)
    : fd_(std::move(fd)), direct_(direct), block_size_(block_size) {
  for (const Extent& area : areas) {
    const uint64_t room = std::numeric_limits<uint32_t>::max() - total_;
    const auto places = static_cast<uint32_t>(std::min<uint64_t>(area.length / block_size, room));
    if (places == 0) continue;
    areas_.push_back({total_, area.offset});
    total_ += places;
  }
  taken_.resize(WordsFor(total_));
}

uint64_t Tier2::memory_bytes() const {
  std::lock_guard lock(mutex_);
  return taken_.size() * sizeof(uint64_t) + areas_.size() * sizeof(Area);
}

uint64_t Tier2::OffsetOf(uint32_t place) const {
  const auto behind = std::upper_bound(areas_.begin(), areas_.end(), place,
                                       [](uint32_t wanted, const Area& area) { return wanted < area.first; });
  const Area& area = *(behind - 1);
  return area.offset + uint64_t{place - area.first} * block_size_;
}

int Tier2::Put(const void* data, uint32_t* place) {
  uint32_t taken;
  if (!Take(&taken)) return -ENOSPC;
  const int error = WriteAll(fd_.get(), data, block_size_, OffsetOf(taken));
  if (error != 0) {
    Free(taken);
    // -ENOSPC means "all places taken" and is no failure; a medium that is full is one
    return error == -ENOSPC ? -EIO : error;
  }
  *place = taken;
  return 0;
}

bool Tier2::Take(uint32_t* place) {
  std::lock_guard lock(mutex_);
  const uint64_t total = total_;
  if (used_ - beyond_ >= total) return false;
  const uint64_t from = next_ < total ? next_ : 0;
  uint64_t found = FindFree(from, total);
  if (found == total) found = FindFree(0, from);
  taken_[found / kWordBits] |= uint64_t{1} << found % kWordBits;
  used_++;
  *place = static_cast<uint32_t>(found);
  next_ = *place + 1;
  return true;
}

// The first free place in [from, to), or `to`.
uint64_t Tier2::FindFree(uint64_t from, uint64_t to) const {
  for (uint64_t place = from; place < to; place = (place / kWordBits + 1) * kWordBits) {
    const uint64_t free = ~taken_[place / kWordBits] >> place % kWordBits;
    if (free != 0) return std::min<uint64_t>(place + static_cast<uint64_t>(__builtin_ctzll(free)), to);
  }
  return to;
}

uint32_t Tier2::CountTaken(uint64_t from) const {
  uint32_t count = 0;
  for (uint64_t word = from / kWordBits; word < taken_.size(); word++) {
    const uint64_t skip = word == from / kWordBits ? from % kWordBits : 0;
    count += static_cast<uint32_t>(__builtin_popcountll(taken_[word] >> skip));
  }
  return count;
}

int Tier2::Get(uint32_t place, void* data) {
  const uint64_t offset = OffsetOf(place);
  const int error = ReadAll(fd_.get(), data, block_size_, offset);
  if (error == 0 && !direct_) {
    // read once, never again: do not let it push others out of the page cache
    (void)posix_fadvise(fd_.get(), static_cast<off_t>(offset), block_size_, POSIX_FADV_DONTNEED);
  }
  return error == -ENODATA ? -EIO : error;
}

void Tier2::Free(uint32_t place) {
  Resized done;
  {
    std::lock_guard lock(mutex_);
    taken_[place / kWordBits] &= ~(uint64_t{1} << place % kWordBits);
    if (place >= total_ && --beyond_ == 0) done = std::exchange(resized_, nullptr);
    used_--;
  }
  if (done) done(0);
}

// A place stays taken while anybody writes or reads it, so with none taken beyond the end, and none to be
// taken there, no I/O of ours goes there any more.
void Tier2::Resize(uint32_t places, Resized done) {
  Resized superseded;
  int error = 0;
  {
    std::lock_guard lock(mutex_);
    if (closed_) {
      error = -ECANCELED;
    } else if (lost_) {
      error = -EIO;
    } else if (areas_.size() != 1) {
      error = -EOPNOTSUPP;
    } else {
      try {
        if (taken_.size() < WordsFor(places)) taken_.resize(WordsFor(places));
        superseded = std::exchange(resized_, nullptr);
        beyond_ = CountTaken(places);
        total_ = places;
        if (beyond_ != 0) std::swap(resized_, done);
      } catch (const std::bad_alloc&) {
        error = -ENOMEM;
      }
    }
  }
  if (superseded) superseded(-ECANCELED);
  if (done) done(error);
}

void Tier2::Close() {
  Resized cancelled;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    cancelled = std::exchange(resized_, nullptr);
  }
  if (cancelled) cancelled(-ECANCELED);
}

}  // namespace snapbak
