// SPDX-License-Identifier: MIT
// A restore that can be used before it is done: the destination as a device on
// which every block reads as in the backup from the first moment. What is not
// there yet is brought when somebody asks for it; threads in the background
// bring the rest.
//
//   a block is      read                  write                          background
//   here            destination           destination                    nothing
//   not here        bring it, then read   whole: claim, write, here      claim, bring, here
//                                         part: bring it, then write
//   claimed         wait                  wait                           take another
//
// A claim is one thread's alone, and nobody who has a claim waits for another,
// so no two can wait for each other. A block that is here is never touched by
// the restore again, so what applications write stays.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../driver/lower_device.h"
#include "../driver/unique_fd.h"
#include "../export/exported_device.h"
#include "block_bits.h"
#include "checksum_file.h"
#include "extent.h"
#include "hole_finder.h"
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

class LazyRestore : public ExportedDevice {
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

  uint64_t size() const override { return options_.image_size; }
  bool read_only() const override { return false; }
  int Read(uint64_t offset, void* data, size_t length) override;
  int Write(uint64_t offset, const void* data, size_t length, bool fua) override;
  int WriteZeroes(uint64_t offset, uint64_t length, bool fua) override;
  // Zeroes what is not there yet where that is cheap, and drops it else: then
  // the block is restored. Never shows what was on the destination before.
  int Discard(uint64_t offset, uint64_t length) override;
  int Flush() override;
  void Shutdown() override;

 private:
  struct Run {
    uint64_t first, count;
  };
  // How a change treats blocks that are not there yet.
  struct Change;

  uint64_t BytesOf(uint64_t first, uint64_t count) const;
  int Apply(uint64_t offset, uint64_t length, bool fua, const Change& change);

  // Claims up to `max` blocks from `first` on that are neither here nor claimed;
  // waits while `first` is claimed. `*count` 0: it is here. 0 or -ESHUTDOWN.
  int Claim(uint64_t first, uint64_t max, uint64_t* count);
  void Release(uint64_t first);
  bool ClaimNext(Run* run);
  // Gives up the end of a claim.
  void Shorten(Run* run, uint64_t count);
  size_t FindClaim(uint64_t block) const;

  // Brings `first`, and up to `max` blocks. -EIO if `first` itself is bad.
  int Demand(uint64_t first, uint64_t max);
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
  int Sync();

  UniqueFd image_;
  std::unique_ptr<ChecksumFile> checksums_;
  LowerDevice destination_;
  std::unique_ptr<RestoreState> state_;
  const LazyRestoreOptions options_;
  const std::function<void(const LazyRestoreNotice&)> notify_;
  const uint64_t blocks_;
  const std::vector<uint8_t> zeroes_;  // a block
  BlockBits here_;
  std::atomic<bool> fresh_, down_{false};
  std::atomic<uint64_t> total_{0}, missing_{0}, demanded_{0}, overwritten_{0};

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<Run> claims_;
  BlockBits bad_;
  uint64_t bad_blocks_ = 0, bad_told_ = 0;
  uint64_t cursor_ = 0;  // where the background goes on: behind the last demand
  unsigned demanding_ = 0;
  unsigned working_ = 0;  // background threads that have not ended
  bool failed_ = false, settled_ = false, closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace snapbak
