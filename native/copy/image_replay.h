// SPDX-License-Identifier: MIT
// Reads a finished backup back: checks every block against its checksum and,
// for a restore, writes it. Verify and restore are this one pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "../driver/unique_fd.h"
#include "checksum_file.h"
#include "copy_session.h"
#include "target.h"

namespace snapbak {

struct ReplayOptions {
  uint64_t image_size = 0;  // bytes of the origin
  uint32_t block_size = 65536;
  uint32_t threads = 2;
  bool check = true;  // compare with the checksums
};

struct ReplayStats {
  uint64_t done_bytes, zero_bytes;
  uint64_t bad_blocks;  // checksum differs
};

class ImageReplay {
 public:
  // `target` null: verify only. `bad` is called for each damaged block (any
  // thread, never two at once); damaged blocks are not written.
  ImageReplay(UniqueFd image, ChecksumFile* checksums, Target* target, const ReplayOptions& options,
              std::function<void(uint64_t block)> bad);

  // Runs to the end on threads of its own; blocks. `extents` are the listed
  // blocks, `skip` the invalid ones (sorted). 0, the first -errno, or
  // -ECANCELED.
  int Run(const std::vector<Extent>& extents, const std::vector<uint64_t>& skip);
  void Cancel() { cancelled_ = true; }
  // After Run: the image is not needed any more; the figures stay.
  void Close() { image_.Reset(); }
  ReplayStats Stats() const;
  // Where Run's error happened: 1 reading the image, 2 its checksums, 3 the target.
  int error_stage() const { return error_stage_; }

 private:
  class Worker;
  UniqueFd image_;
  ChecksumFile* checksums_;
  Target* target_;
  const ReplayOptions options_;
  std::function<void(uint64_t)> bad_;
  std::atomic<bool> cancelled_{false};
  std::atomic<int> error_stage_{0};
  std::atomic<uint64_t> done_bytes_{0}, zero_bytes_{0}, bad_blocks_{0};
};

}  // namespace snapbak
