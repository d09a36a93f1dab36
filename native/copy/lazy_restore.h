// SPDX-License-Identifier: MIT
// A restore that can be used before it is done: the destination as a device on
// which every block reads as in the backup from the first moment. What is not
// there yet is brought when somebody asks for it; threads in the background
// bring the rest, by claims as clients' requests have (lazy_device.h).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../driver/unique_fd.h"
#include "checksum_file.h"
#include "extent.h"
#include "hole_finder.h"
#include "lazy_device.h"
#include "restore_state.h"

namespace snapbak {

struct LazyRestoreOptions {
  uint64_t image_size = 0;
  uint32_t block_size = 65536;
  uint32_t threads = 2;     // of the background; 0: nothing is brought but what is asked for
  bool check = true;        // compare blocks with their checksums
  bool fresh = false;       // what is not here reads as zeroes on the destination
  uint32_t sync_ms = 5000;  // how often what is here becomes durable without being asked to
};

struct LazyRestoreStats {
  uint64_t total_blocks;    // to be restored, when it was opened
  uint64_t here_blocks;     // of them, there
  uint64_t bad_blocks;      // of them, not there, for the backup's are damaged
  uint64_t demand_blocks;   // brought because somebody asked for them
  uint64_t written_blocks;  // never brought: written whole before
};

struct LazyRestoreNotice {
  enum Kind {
    kBadBlock,  // `block` is damaged (error -EBADMSG) or unreadable in the backup
    kFailed,    // the background gave up: the destination or the state file (`error`)
    kSettled,   // everything is there but bad blocks, durably
  } kind;
  uint64_t block;
  int error;
};

class LazyRestore : public LazyDevice {
 public:
  // `notify` is called on any thread, for a thousand bad blocks at most.
  LazyRestore(UniqueFd image, std::unique_ptr<ChecksumFile> checksums, LowerDevice destination,
              std::unique_ptr<RestoreState> state, const LazyRestoreOptions& options,
              std::function<void(const LazyRestoreNotice&)> notify);
  ~LazyRestore() override { Close(); }

  // `extents` are to be restored; the rest of the destination is left as it is.
  // Blocks that the state knows are there already. Then the background starts.
  int Open(const std::vector<Extent>& extents, const std::string& boot);

  // After Shutdown and the end of all calls: ends the background, makes durable
  // what is there, closes. Idempotent; 0 or -errno.
  int Close();

  LazyRestoreStats Stats() const;

  int Write(uint64_t offset, const void* data, size_t length, bool fua) override;
  // Zeroes what is not there yet where that is cheap, and drops it else: then
  // the block is restored. Never shows what was on the destination before.
  int Discard(uint64_t offset, uint64_t length) override;

 private:
  bool ClaimNext(Run* run);
  // Gives up the end of a claim.
  void Shorten(Run* run, uint64_t count);

  // Brings `first`, and up to `max` blocks. -EIO if `first` itself is bad.
  int Demand(uint64_t first, uint64_t max) override;
  int Written(uint64_t first, uint64_t count) override { return Arrived(first, count, &overwritten_); }
  // Brings a claimed run; a bad block stays away. 0 or -errno of destination or state.
  int Bring(const Run& run, bool hole, uint8_t* buffer);
  int Put(const Run& run, bool zero, const uint8_t* data);
  int Arrived(uint64_t first, uint64_t count, std::atomic<uint64_t>* counter);
  void Bad(uint64_t block, int error);

  void Background();
  int BringNext(Run run, HoleFinder* holes, uint8_t* buffer);
  void SyncLoop();
  void Settle();
  void Fail(int error);
  int Sync() override;

  UniqueFd image_;
  std::unique_ptr<ChecksumFile> checksums_;
  std::unique_ptr<RestoreState> state_;
  const LazyRestoreOptions options_;
  const std::function<void(const LazyRestoreNotice&)> notify_;
  const std::vector<uint8_t> zeroes_;  // a block
  std::atomic<uint64_t> total_{0}, demanded_{0}, overwritten_{0};

  // guarded by mutex_
  uint64_t bad_told_ = 0;
  uint64_t cursor_ = 0;  // where the background goes on: behind the last demand
  unsigned demanding_ = 0;
  unsigned working_ = 0;  // background threads that have not ended
  bool failed_ = false, settled_ = false, closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace snapbak
