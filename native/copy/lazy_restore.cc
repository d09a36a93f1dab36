// SPDX-License-Identifier: MIT
#include "lazy_restore.h"

#include <errno.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>
#include <utility>

#include "crc32c.h"
#include "file_io.h"
#include "zero.h"

namespace snapbak {

namespace {

constexpr uint64_t kStepBytes = 512 * 1024;        // brought at once
constexpr uint64_t kHoleBytes = 64 * 1024 * 1024;  // looked at once where the image has a hole
constexpr uint64_t kBadTold = 1000;
// The background waits for demand to end, but not for ever: it has to come to an end.
constexpr auto kDemandFirst = std::chrono::milliseconds(50);

std::unique_ptr<uint8_t[]> MakeBuffer(uint64_t bytes) {
  return std::unique_ptr<uint8_t[]>(new (std::nothrow) uint8_t[bytes]);
}

}  // namespace

LazyRestore::LazyRestore(UniqueFd image, std::unique_ptr<ChecksumFile> checksums, LowerDevice destination,
                         std::unique_ptr<RestoreState> state, const LazyRestoreOptions& options,
                         std::function<void(const LazyRestoreNotice&)> notify)
    : LazyDevice(std::move(destination), options.image_size, options.block_size, options.fresh),
      image_(std::move(image)),
      checksums_(std::move(checksums)),
      state_(std::move(state)),
      options_(options),
      notify_(std::move(notify)),
      zeroes_(options.block_size) {}

int LazyRestore::Open(const std::vector<Extent>& extents, const std::string& boot) {
  if (destination_.size() < size_) return -EINVAL;
  uint64_t at = 0;
  for (const Extent& extent : extents) {  // in order, none touching another
    if (extent.length == 0) continue;
    const uint64_t first = extent.offset / block_size_;
    const uint64_t end = (extent.offset + extent.length - 1) / block_size_ + 1;
    if (first < at || end > blocks_) return -EINVAL;
    if (first > at) state_->Assume(at, first - at, &here_);
    total_ += end - first;
    at = end;
  }
  if (at < blocks_) state_->Assume(at, blocks_ - at, &here_);
  const int ret = state_->Load(boot, &here_);
  if (ret != 0) return ret;
  for (uint64_t w = 0; w < here_.words(); ++w) {
    missing_ += __builtin_popcountll(~here_.word(w) & BlockBits::Mask(w, 0, blocks_));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    for (uint32_t i = 0; i < options_.threads; ++i) {
      threads_.emplace_back([this] { Background(); });
      ++working_;
    }
    threads_.emplace_back([this] { SyncLoop(); });
  } catch (const std::system_error&) {
    return -EAGAIN;
  }
  return 0;
}

int LazyRestore::Close() {
  Shutdown();
  std::vector<std::thread> threads;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(closed_, true)) return 0;
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  const int ret = Sync();
  destination_ = LowerDevice();
  image_.Reset();
  checksums_.reset();
  state_.reset();
  return ret;
}

LazyRestoreStats LazyRestore::Stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {total_, total_ - missing_, bad_blocks_, demanded_, overwritten_};
}

// ---- requests -------------------------------------------------------------

int LazyRestore::Write(uint64_t offset, const void* data, size_t length, bool fua) {
  const uint64_t first = offset / block_size_;
  const uint64_t count = (offset + length - 1) / block_size_ - first + 1;
  if (!fua || over_ != 0 || !state_->IsDurable(first, count)) {
    return LazyDevice::Write(offset, data, length, fua);
  }
  return state_->WriteDurably([&] { return destination_.Write(data, length, offset, true); });
}

int LazyRestore::Discard(uint64_t offset, uint64_t length) {
  const auto discard = [&](uint64_t at, uint64_t n, uint64_t) { return destination_.Discard(at, n); };
  const auto zero = [&](uint64_t at, uint64_t n, uint64_t) {
    return destination_.WriteZeroes(at, n, true, true);
  };
  return Apply(offset, length, false, {discard, zero, false});
}

int LazyRestore::Sync() {
  return state_->Sync([this] { return destination_.Flush(); });
}

// ---- claims ---------------------------------------------------------------

void LazyRestore::Shorten(Run* run, uint64_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  Run& claim = claims_[FindClaim(run->first)];
  if (count >= claim.count) return;
  if (cursor_ == run->first + run->count) cursor_ = run->first + count;
  claim.count = run->count = count;
  changed_.notify_all();
}

int LazyRestore::Arrived(uint64_t first, uint64_t count, std::atomic<uint64_t>* counter) {
  uint64_t fresh = 0;
  const int ret = state_->Add(first, count, &here_, &fresh);
  if (ret != 0) return ret;
  if (counter != nullptr) *counter += fresh;
  NoteHere(first, count, fresh);
  return 0;
}

// ---- bringing -------------------------------------------------------------

int LazyRestore::Demand(uint64_t first, uint64_t max) {
  max = std::min(max, std::max<uint64_t>(kStepBytes / block_size_, 1));
  Run run{first, 0};
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++demanding_;
  }
  int ret = Claim(first, max, &run.count);
  if (ret == 0 && run.count > 0) {
    const auto buffer = MakeBuffer(run.count * block_size_);
    ret = buffer ? Bring(run, false, buffer.get()) : -ENOMEM;
    if (ret == 0 && !here_.Get(first)) ret = -EIO;
    for (uint64_t i = 0; ret == 0 && i < run.count; ++i) demanded_ += here_.Get(first + i);
    Release(first);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  cursor_ = first + run.count;  // whoever reads on finds it there
  if (--demanding_ == 0) changed_.notify_all();
  return ret;
}

int LazyRestore::Bring(const Run& run, bool hole, uint8_t* buffer) {
  const uint64_t bs = block_size_;
  std::vector<uint32_t> sums(run.count);
  int unread = 0;
  if (!hole) unread = ReadAll(image_.get(), buffer, BytesOf(run.first, run.count), run.first * bs);
  int ret = options_.check ? checksums_->Get(run.first, sums.data(), static_cast<uint32_t>(run.count)) : 0;
  if (ret != 0) {
    for (uint64_t i = 0; i < run.count; ++i) Bad(run.first + i, ret);
    return 0;
  }
  const uint32_t zero_crc = hole ? Crc32c(0, zeroes_.data(), bs) : 0;
  Run good{run.first, 0};
  bool zero = false;
  const auto put = [&]() -> int {
    return good.count == 0 ? 0 : Put(good, zero, buffer + (hole ? 0 : (good.first - run.first) * bs));
  };
  for (uint64_t i = 0; i < run.count; ++i) {
    const uint64_t block = run.first + i, length = BytesOf(block, 1);
    uint8_t* data = buffer + i * bs;
    int error = 0;
    if (unread != 0) error = ReadAll(image_.get(), data, length, block * bs);  // the others may be well
    const bool is_zero = hole || (error == 0 && IsZero(data, length));
    if (error == 0 && options_.check) {
      const uint32_t crc = !hole          ? Crc32c(0, data, length)
                           : length == bs ? zero_crc
                                          : Crc32c(0, zeroes_.data(), length);
      if (crc != sums[i]) error = -EBADMSG;
    }
    if (error == 0 && is_zero == zero && good.count > 0) {
      good.count++;
      continue;
    }
    ret = put();
    if (ret != 0) return ret;
    good = {block, error == 0 ? 1u : 0u};
    zero = is_zero;
    if (error != 0) Bad(block, error);
  }
  return put();
}

int LazyRestore::Put(const Run& run, bool zero, const uint8_t* data) {
  int ret = Store(run, zero ? nullptr : data);
  if (ret != 0) return ret;
  ret = Arrived(run.first, run.count, nullptr);
  if (ret != 0) fresh_ = false;  // something of it may stand there now
  return ret;
}

void LazyRestore::Bad(uint64_t block, int error) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (bad_.Get(block)) return;
    bad_.Set(block, 1);
    ++bad_blocks_;
    if (++bad_told_ > kBadTold) return;
  }
  if (notify_) notify_({LazyRestoreNotice::kBadBlock, block, error});
}

// ---- the background -------------------------------------------------------

// The next blocks that are missing, claimed; false: there are none that can be had, or it ends.
bool LazyRestore::ClaimNext(Run* run) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto stop = [this] { return over_ != 0 || failed_; };
  for (;;) {
    changed_.wait_for(lock, kDemandFirst, [&] { return stop() || demanding_ == 0; });
    if (stop()) return false;
    // from the cursor on, then once more from the beginning
    for (int round = 0; round < 2; ++round) {
      uint64_t block = round == 0 ? std::min(cursor_, blocks_) : 0;
      for (block = here_.NextClear(block); block < blocks_; block = here_.NextClear(block)) {
        const size_t claim = FindClaim(block);
        if (claim < claims_.size()) {
          block = claims_[claim].first + claims_[claim].count;
        } else if (bad_.Get(block)) {
          ++block;
        } else {
          const uint64_t most = std::max<uint64_t>(kHoleBytes / block_size_, 1);
          const uint64_t count = Unclaimed(block, here_.RunLength(block, most));
          *run = {block, count};
          claims_.push_back(*run);
          cursor_ = block + count;
          return true;
        }
        if (block >= blocks_) break;
      }
    }
    if (claims_.empty()) return false;
    changed_.wait(lock);  // somebody may yet give up what he has claimed
  }
}

int LazyRestore::BringNext(Run run, HoleFinder* holes, uint8_t* buffer) {
  const uint64_t offset = run.first * block_size_;
  bool hole = holes->IsHole(offset, BytesOf(run.first, run.count));
  if (!hole) {
    Shorten(&run, std::max<uint64_t>(kStepBytes / block_size_, 1));
    hole = holes->IsHole(offset, BytesOf(run.first, run.count));
  }
  const int ret = Bring(run, hole, buffer);
  Release(run.first);
  return ret;
}

void LazyRestore::Background() {
  pthread_setname_np(pthread_self(), "snapbak-restore");
  HoleFinder holes(image_.get());
  const auto buffer = MakeBuffer(std::max<uint64_t>(kStepBytes, block_size_));
  if (!buffer) Fail(-ENOMEM);
  Run run;
  while (buffer && ClaimNext(&run)) {
    const int ret = BringNext(run, &holes, buffer.get());
    if (ret != 0) Fail(ret);
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--working_ > 0 || over_ != 0 || failed_) return;
  }
  Settle();
}

void LazyRestore::Settle() {
  const int ret = Sync();
  if (ret != 0) return Fail(ret);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    settled_ = true;
    changed_.notify_all();
  }
  if (notify_) notify_({LazyRestoreNotice::kSettled, 0, 0});
}

void LazyRestore::Fail(int error) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(failed_, true)) return;
    changed_.notify_all();
  }
  if (notify_) notify_({LazyRestoreNotice::kFailed, 0, error});
}

void LazyRestore::SyncLoop() {
  pthread_setname_np(pthread_self(), "snapbak-sync");
  std::unique_lock<std::mutex> lock(mutex_);
  const auto pause = std::chrono::milliseconds(options_.sync_ms);
  while (over_ == 0 && !settled_) {
    const auto until = std::chrono::steady_clock::now() + pause;
    changed_.wait_until(lock, until, [this] { return over_ != 0 || settled_; });
    if (over_ != 0 || settled_) return;
    lock.unlock();
    const int ret = state_->dirty() ? Sync() : 0;
    if (ret != 0) return Fail(ret);
    lock.lock();
  }
}

}  // namespace snapbak
