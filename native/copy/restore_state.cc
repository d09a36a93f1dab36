// SPDX-License-Identifier: MIT
#include "restore_state.h"

#include <endian.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "file_io.h"

namespace snapbak {

namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kBootBytes = 64;

uint64_t BitmapBytes(uint64_t blocks) { return (blocks + kPage * 8 - 1) / (kPage * 8) * kPage; }

}  // namespace

uint64_t RestoreState::FileBytes(uint64_t blocks) { return 2 * kTextBytes + 2 * BitmapBytes(blocks); }

RestoreState::RestoreState(UniqueFd file, uint64_t blocks)
    : file_(std::move(file)), written_(blocks), durable_(blocks) {}

uint64_t RestoreState::VolatileAt() const { return DurableAt() + BitmapBytes(durable_.blocks()); }

int RestoreState::Load(const std::string& boot, BlockBits* here) {
  char found[kBootBytes + 1] = {};
  int ret = ReadAll(file_.get(), found, kBootBytes, kTextBytes);
  if (ret != 0) return ret;
  const bool same_boot = !boot.empty() && boot == found;
  std::vector<uint64_t> words(kPage / 8);
  const auto read = [&](uint64_t at, const std::function<void(uint64_t, uint64_t)>& take) {
    for (uint64_t w = 0; w < here->words(); w += words.size()) {
      const int error = ReadAll(file_.get(), words.data(), kPage, at + w * 8);
      if (error != 0) return error;
      for (uint64_t i = 0; i < words.size() && w + i < here->words(); ++i) {
        const uint64_t valid = BlockBits::Mask(w + i, 0, here->blocks());
        if (words[i] != 0) take(w + i, le64toh(words[i]) & valid);
      }
    }
    return 0;
  };
  const auto note = [&](uint64_t index, uint64_t bits) {
    for (uint64_t fresh = here->SetWord(index, bits); fresh != 0; fresh &= fresh - 1) {
      Remember(index * 64 + static_cast<uint64_t>(__builtin_ctzll(fresh)), 1);
    }
  };
  // Whoever wrote them may have been killed before they were on the disk, or have failed to bring them
  // there: the data are durable, the bits perhaps not. They are the next Sync's, as those of this boot are.
  ret = read(DurableAt(), [&](uint64_t index, uint64_t bits) {
    written_.SetWord(index, bits);
    note(index, bits);
  });
  if (ret == 0 && same_boot) ret = read(VolatileAt(), note);
  if (ret != 0) return ret;
  if (!same_boot) {
    // What stands there of an earlier boot goes before ours is named. The page
    // cache shows both or neither to whoever comes after a kill, and after a
    // loss of power the name will not fit whatever is there.
    std::vector<uint8_t> zeroes(64 * 1024);
    for (uint64_t done = 0, all = BitmapBytes(durable_.blocks()); done < all;) {
      const uint64_t n = std::min<uint64_t>(zeroes.size(), all - done);
      ret = WriteAll(file_.get(), zeroes.data(), n, VolatileAt() + done);
      if (ret != 0) return ret;
      done += n;
    }
    ret = WriteBoot(boot);
    if (ret != 0) return ret;
  }
  return 0;
}

void RestoreState::Assume(uint64_t first, uint64_t count, BlockBits* here) {
  written_.Set(first, count);
  durable_.Set(first, count);
  here->Set(first, count);
}

int RestoreState::WriteBoot(const std::string& boot) {
  char name[kBootBytes] = {};
  memcpy(name, boot.data(), std::min(boot.size(), sizeof name));
  return WriteAll(file_.get(), name, sizeof name, kTextBytes);
}

int RestoreState::WriteWords(uint64_t at, const BlockBits& bits, uint64_t first, uint64_t count) {
  const uint64_t begin = first / 64, end = (first + count - 1) / 64 + 1;
  uint64_t words[512];
  for (uint64_t w = begin; w < end;) {
    const uint64_t n = std::min<uint64_t>(std::size(words), end - w);
    for (uint64_t i = 0; i < n; ++i) {
      words[i] = htole64(bits.word(w + i) | BlockBits::Mask(w + i, first, count));
    }
    const int ret = WriteAll(file_.get(), words, n * 8, at + w * 8);
    if (ret != 0) return ret;
    w += n;
  }
  return 0;
}

void RestoreState::Remember(uint64_t first, uint64_t count) {
  if (!added_.empty() && added_.back().first + added_.back().count == first) {
    added_.back().count += count;
  } else {
    added_.push_back({first, count});
  }
}

int RestoreState::Add(uint64_t first, uint64_t count, BlockBits* here, uint64_t* fresh) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!lost_) {
    const int ret = WriteWords(VolatileAt(), *here, first, count);
    if (ret != 0) return ret;
  }
  Remember(first, count);
  *fresh = here->Set(first, count);
  return 0;
}

int RestoreState::Sync(const std::function<int()>& flush) {
  std::lock_guard<std::mutex> one(sync_mutex_);
  std::vector<Run> runs;  // what comes during the flush need not be durable after it
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (lost_) return -EIO;
    runs.swap(added_);
  }
  int ret = flush();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (ret != 0) {
      Lose();
      return ret;
    }
    // Durable writes that began before the flush ended may have been told what it should have been.
    const unsigned before = std::exchange(round_, 1 - round_);
    ended_.wait(lock, [&] { return writing_[before] == 0; });
    if (lost_) return -EIO;
  }
  if (runs.empty()) return 0;
  for (const Run& run : runs) written_.Set(run.first, run.count);
  for (const Run& run : runs) {
    ret = WriteWords(DurableAt(), written_, run.first, run.count);
    if (ret != 0) break;
  }
  if (ret == 0 && fdatasync(file_.get()) != 0) ret = -errno;
  if (ret != 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    added_.insert(added_.end(), runs.begin(), runs.end());
    return ret;
  }
  for (const Run& run : runs) durable_.Set(run.first, run.count);
  return 0;
}

int RestoreState::WriteDurably(const std::function<int()>& write) {
  std::unique_lock<std::mutex> lock(mutex_);
  const unsigned round = round_;
  ++writing_[round];
  lock.unlock();
  const int ret = write();
  lock.lock();
  if (ret != 0) Lose();
  if (--writing_[round] == 0) ended_.notify_all();
  return ret;
}

void RestoreState::Lose() {
  lost_ = true;
  WriteBoot("lost");  // an error here changes nothing: the destination has failed
}

bool RestoreState::IsDurable(uint64_t first, uint64_t count) const {
  return durable_.Get(first) && durable_.RunLength(first, count) == count;
}

bool RestoreState::dirty() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return !added_.empty();
}

}  // namespace snapbak
