// SPDX-License-Identifier: MIT
#include "lazy_device.h"

#include <errno.h>

#include <algorithm>
#include <utility>

namespace snapbak {

namespace {

constexpr size_t kClaims = 256;

}  // namespace

LazyDevice::LazyDevice(LowerDevice destination, uint64_t size, uint32_t block_size, bool fresh)
    : destination_(std::move(destination)),
      size_(size),
      block_size_(block_size),
      blocks_((size - 1) / block_size + 1),
      here_(blocks_),
      bad_(blocks_),
      fresh_(fresh) {
  // Room for more threads than there ever are: no memory is asked for with the lock held, since a thread that
  // a write of the origin waits for may want the lock.
  claims_.reserve(kClaims);
}

uint64_t LazyDevice::BytesOf(uint64_t first, uint64_t count) const {
  const uint64_t offset = first * block_size_;
  return std::min(count * block_size_, size_ - offset);
}

void LazyDevice::Shutdown() {
  std::lock_guard<std::mutex> lock(mutex_);
  int running = 0;
  over_.compare_exchange_strong(running, -ESHUTDOWN);
  changed_.notify_all();
}

// ---- requests -------------------------------------------------------------

int LazyDevice::Read(uint64_t offset, void* data, size_t length) {
  auto* at = static_cast<uint8_t*>(data);
  while (length > 0) {
    if (over_ != 0) return over_;
    const uint64_t block = offset / block_size_;
    const uint64_t last = (offset + length - 1) / block_size_;
    const bool here = here_.Get(block);
    const uint64_t count = here_.RunLength(block, last - block + 1);
    if (!here) {
      const int ret = Demand(block, count);
      if (ret != 0) return ret;
      continue;
    }
    const uint64_t end = block * block_size_ + BytesOf(block, count);
    const size_t n = std::min<uint64_t>(length, end - offset);
    const int ret = destination_.Read(at, n, offset);
    if (ret != 0) return ret;
    offset += n, at += n, length -= n;
  }
  return 0;
}

int LazyDevice::Apply(uint64_t offset, uint64_t length, bool fua, const Change& change) {
  const uint64_t begin = offset;
  changed_by_clients_ = true;
  while (length > 0) {
    if (over_ != 0) return over_;
    const uint64_t block = offset / block_size_;
    const uint64_t last = (offset + length - 1) / block_size_;
    const bool here = here_.Get(block);
    uint64_t count = here_.RunLength(block, last - block + 1);
    const uint64_t done = offset - begin;
    uint64_t n = std::min(length, block * block_size_ + BytesOf(block, count) - offset);
    int ret = 0;
    if (here) {
      ret = change.here(offset, n, done);
    } else {
      // a whole number of blocks from here on, or a part of this one
      const uint64_t first_bytes = BytesOf(block, 1);
      const bool whole = offset % block_size_ == 0 && n >= first_bytes;
      if (!whole) {
        n = std::min(n, block * block_size_ + first_bytes - offset);
        if (change.bring_parts) {
          ret = Demand(block, 1);
          if (ret != 0) return ret;
          continue;
        }
      } else if (change.claimed) {
        while (BytesOf(block, count) > n) --count;
        uint64_t claimed = 0;
        ret = Claim(block, count, &claimed);
        if (ret != 0) return ret;
        if (claimed == 0) continue;
        n = BytesOf(block, claimed);
        ret = change.claimed(offset, n, done);
        const bool left = ret == -EOPNOTSUPP;
        if (ret == 0) ret = Written(block, claimed);
        if (ret != 0 && !left) fresh_ = false;  // something of it may stand there now
        if (left) ret = 0;
        Release(block);
      }
    }
    if (ret != 0) return ret;
    offset += n, length -= n;
  }
  // A block may be brought, or written whole, and not be known for good yet:
  // then a durable write is not enough.
  return fua ? Sync() : 0;
}

int LazyDevice::Write(uint64_t offset, const void* data, size_t length, bool fua) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  const auto write = [&](uint64_t at, uint64_t n, uint64_t done) {
    return destination_.Write(bytes + done, n, at, false);
  };
  return Apply(offset, length, fua, {write, write, true});
}

int LazyDevice::WriteZeroes(uint64_t offset, uint64_t length, bool fua) {
  const auto zero = [&](uint64_t at, uint64_t n, uint64_t) {
    return destination_.WriteZeroes(at, n, false, false);
  };
  return Apply(offset, length, fua, {zero, zero, true});
}

int LazyDevice::Flush() { return over_ != 0 ? over_.load() : Sync(); }

// ---- claims ---------------------------------------------------------------

size_t LazyDevice::FindClaim(uint64_t block) const {
  size_t i = 0;
  while (i < claims_.size() && (block < claims_[i].first || block >= claims_[i].first + claims_[i].count))
    ++i;
  return i;
}

// How many of `count` blocks from `first` on, which is not claimed, are there before the next claim.
uint64_t LazyDevice::Unclaimed(uint64_t first, uint64_t count) const {
  for (const Run& other : claims_) {
    if (other.first > first) count = std::min(count, other.first - first);
  }
  return count;
}

int LazyDevice::Claim(uint64_t first, uint64_t max, uint64_t* count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return over_ != 0 || here_.Get(first) || FindClaim(first) == claims_.size(); });
  if (over_ != 0) return over_;
  *count = 0;
  if (here_.Get(first)) return 0;
  *count = Unclaimed(first, here_.RunLength(first, max));
  claims_.push_back({first, *count});
  return 0;
}

void LazyDevice::Release(uint64_t first) {
  std::lock_guard<std::mutex> lock(mutex_);
  claims_.erase(claims_.begin() + static_cast<ptrdiff_t>(FindClaim(first)));
  changed_.notify_all();
}

int LazyDevice::Store(const Run& run, const uint8_t* data) {
  const uint64_t offset = run.first * block_size_, length = BytesOf(run.first, run.count);
  int ret = 0;
  if (data != nullptr) {
    ret = destination_.Write(data, length, offset, false);
  } else if (!fresh_) {
    ret = destination_.WriteZeroes(offset, length, true, false);
  }
  if (ret != 0) fresh_ = false;  // something of it may stand there now
  return ret;
}

void LazyDevice::NoteHere(uint64_t first, uint64_t count, uint64_t fresh) {
  missing_ -= fresh;
  std::lock_guard<std::mutex> lock(mutex_);
  if (bad_blocks_ == 0) return;
  for (uint64_t block = first; block < first + count; ++block) {
    if (!bad_.Get(block)) continue;
    bad_.Clear(block);
    --bad_blocks_;
  }
}

}  // namespace snapbak
