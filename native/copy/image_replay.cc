// SPDX-License-Identifier: MIT
// Reads a finished backup back, a piece at a time on every thread: checks it,
// and for a restore hands it to the target.
#include "image_replay.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "aligned_buffer.h"
#include "crc32c.h"
#include "file_io.h"
#include "hole_finder.h"
#include "work_queue.h"
#include "zero.h"

namespace snapbak {
namespace {

constexpr uint64_t kPieceBytes = 16u << 20;  // what a thread takes at a time; one hole at the most
constexpr uint64_t kReadBytes = 512u << 10;

// Extents as runs of blocks: ascending, widened, overlaps joined.
std::vector<BlockRun> RunsOf(const std::vector<Extent>& extents, uint32_t block_size, uint64_t nr_blocks) {
  std::vector<BlockRun> runs;
  runs.reserve(extents.size());
  for (const Extent& extent : extents) {
    const BlockRun run = BlocksOf(extent, block_size, nr_blocks);
    if (run.count > 0) runs.push_back(run);
  }
  std::sort(runs.begin(), runs.end(), [](const BlockRun& a, const BlockRun& b) { return a.first < b.first; });
  size_t kept = 0;
  for (const BlockRun& run : runs) {
    if (kept > 0 && run.first <= runs[kept - 1].first + runs[kept - 1].count) {
      BlockRun& last = runs[kept - 1];
      last.count = std::max(last.count, run.first + run.count - last.first);
    } else {
      runs[kept++] = run;
    }
  }
  runs.resize(kept);
  return runs;
}

// The pieces, handed out in ascending order; and the first error of all threads.
class Plan {
 public:
  explicit Plan(std::vector<BlockRun> runs) : runs_(std::move(runs)) {}

  bool Next(uint64_t max_blocks, BlockRun* piece) {
    std::lock_guard lock(mutex_);
    if (error_ != 0 || at_ == runs_.size()) return false;
    BlockRun& run = runs_[at_];
    *piece = {run.first, std::min(run.count, max_blocks)};
    run.first += piece->count;
    run.count -= piece->count;
    if (run.count == 0) at_++;
    return true;
  }

  // True for the first.
  bool Fail(int error) {
    std::lock_guard lock(mutex_);
    if (error_ != 0) return false;
    error_ = error;
    return true;
  }
  int error() const { return error_; }

  std::mutex bad_mutex;  // around the caller's `bad`

 private:
  std::vector<BlockRun> runs_;
  std::mutex mutex_;
  size_t at_ = 0;
  int error_ = 0;
};

}  // namespace

class ImageReplay::Worker {
 public:
  Worker(ImageReplay* replay, Plan* plan, const std::vector<uint64_t>& skip)
      : replay_(*replay),
        plan_(*plan),
        skip_(skip),
        block_size_(replay->options_.block_size),
        read_blocks_(std::max<uint64_t>(kReadBytes / block_size_, 1)),
        piece_blocks_(std::max<uint64_t>(kPieceBytes / block_size_, 1)),
        holes_(replay->image_.get()),
        sums_(piece_blocks_),
        zeroes_(block_size_) {
    if (buffer_.Allocate(read_blocks_ * block_size_) != 0) throw std::bad_alloc();
    zero_crc_ = Crc32c(0, zeroes_.data(), block_size_);
  }

  void Run() {
    BlockRun piece;
    while (!replay_.cancelled_ && plan_.Next(piece_blocks_, &piece)) {
      if (!Replay(piece)) return;
    }
  }

 private:
  enum class Kind { kNothing, kZeroes, kData };

  bool Fail(int stage, int error) {
    if (plan_.Fail(error)) replay_.error_stage_ = stage;
    return false;
  }

  uint64_t BytesOf(uint64_t first, uint64_t count) const {
    return std::min(count * block_size_, replay_.options_.image_size - first * block_size_);
  }

  bool Replay(BlockRun piece) {
    while (piece.count > 0 && !replay_.cancelled_) {
      BlockRun step = piece;
      const uint64_t offset = piece.first * block_size_;
      bool hole = holes_.IsHole(offset, BytesOf(piece.first, piece.count));
      if (!hole) {
        step.count = std::min(piece.count, read_blocks_);
        hole = holes_.IsHole(offset, BytesOf(step.first, step.count));
      }
      if (!hole) {
        const int error =
            ReadAll(replay_.image_.get(), buffer_.data(), BytesOf(step.first, step.count), offset);
        if (error != 0) return Fail(1, error);
      }
      if (replay_.options_.check) {
        const int error =
            replay_.checksums_->Get(step.first, sums_.data(), static_cast<uint32_t>(step.count));
        if (error != 0) return Fail(2, error);
      }
      if (!ReplayStep(step, hole)) return false;
      piece.first += step.count;
      piece.count -= step.count;
    }
    return Flush();
  }

  bool ReplayStep(const BlockRun& step, bool hole) {
    auto skip = std::lower_bound(skip_.begin(), skip_.end(), step.first);
    for (uint64_t i = 0; i < step.count; i++) {
      const uint64_t block = step.first + i;
      while (skip != skip_.end() && *skip < block) ++skip;
      Kind kind = Kind::kNothing;
      if (skip == skip_.end() || *skip != block) {
        kind = Look(block, hole ? nullptr : buffer_.data() + i * block_size_, sums_[i]);
      }
      if (!Add(kind, block, buffer_.data() + i * block_size_)) return false;
    }
    // the buffer is about to be read into again; zeroes go on collecting
    return pending_ == Kind::kData ? Flush() : true;
  }

  // What is to be done with a block; `data` null: a hole.
  Kind Look(uint64_t block, const uint8_t* data, uint32_t sum) {
    const uint64_t length = BytesOf(block, 1);
    const bool zero = data == nullptr || IsZero(data, length);
    if (replay_.options_.check) {
      const uint32_t crc = !zero                   ? Crc32c(0, data, length)
                           : length == block_size_ ? zero_crc_
                                                   : Crc32c(0, zeroes_.data(), length);
      if (crc != sum) {
        replay_.bad_blocks_++;
        replay_.done_bytes_ += length;
        std::lock_guard lock(plan_.bad_mutex);
        if (replay_.bad_) replay_.bad_(block);
        return Kind::kNothing;
      }
    }
    if (zero) replay_.zero_bytes_ += length;
    replay_.done_bytes_ += length;
    return zero ? Kind::kZeroes : Kind::kData;
  }

  // Joins neighbours of one kind.
  bool Add(Kind kind, uint64_t block, const uint8_t* data) {
    if (kind == pending_ && pending_run_.first + pending_run_.count == block) {
      pending_run_.count++;
      return true;
    }
    if (!Flush()) return false;
    pending_ = kind;
    pending_run_ = {block, 1};
    pending_data_ = data;
    return true;
  }

  bool Flush() {
    const Kind kind = std::exchange(pending_, Kind::kNothing);
    if (kind == Kind::kNothing || replay_.target_ == nullptr) return true;
    const uint64_t offset = pending_run_.first * block_size_;
    const uint64_t length = BytesOf(pending_run_.first, pending_run_.count);
    const int error = kind == Kind::kData ? replay_.target_->Write(offset, pending_data_, length)
                                          : replay_.target_->WriteZeroes(offset, length);
    return error == 0 ? true : Fail(3, error);
  }

  ImageReplay& replay_;
  Plan& plan_;
  const std::vector<uint64_t>& skip_;
  const uint64_t block_size_, read_blocks_, piece_blocks_;
  HoleFinder holes_;
  AlignedBuffer buffer_;
  std::vector<uint32_t> sums_;
  const std::vector<uint8_t> zeroes_;
  uint32_t zero_crc_;
  Kind pending_ = Kind::kNothing;
  BlockRun pending_run_{};
  const uint8_t* pending_data_ = nullptr;
};

ImageReplay::ImageReplay(UniqueFd image, ChecksumFile* checksums, Target* target,
                         const ReplayOptions& options, std::function<void(uint64_t)> bad)
    : image_(std::move(image)),
      checksums_(checksums),
      target_(target),
      options_(options),
      bad_(std::move(bad)) {}

int ImageReplay::Run(const std::vector<Extent>& extents, const std::vector<uint64_t>& skip) {
  if (options_.block_size == 0 || options_.image_size == 0 || options_.threads == 0) return -EINVAL;
  if (options_.check && checksums_ == nullptr) return -EINVAL;
  const uint64_t nr_blocks = (options_.image_size - 1) / options_.block_size + 1;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::thread> threads;
  int error = 0;
  Plan plan(RunsOf(extents, options_.block_size, nr_blocks));
  try {
    for (uint32_t i = 0; i < options_.threads; i++) {
      workers.push_back(std::make_unique<Worker>(this, &plan, skip));
    }
    threads.reserve(workers.size());
    for (auto& worker : workers) threads.emplace_back([&worker] { worker->Run(); });
  } catch (const std::bad_alloc&) {
    error = -ENOMEM;
  } catch (const std::system_error&) {
    if (threads.empty()) error = -EAGAIN;  // fewer threads than asked for do as well
  }
  if (error != 0) plan.Fail(error);
  for (std::thread& thread : threads) thread.join();
  if (plan.error() != 0) return plan.error();
  return cancelled_ ? -ECANCELED : 0;
}

ReplayStats ImageReplay::Stats() const { return ReplayStats{done_bytes_, zero_bytes_, bad_blocks_}; }

}  // namespace snapbak
