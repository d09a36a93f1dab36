// SPDX-License-Identifier: MIT
// A device that is used before its content is there: blocks come while clients
// read and write. Who brings them is the derived class's affair: a restore on
// demand fetches them from a backup (lazy_restore.h), a clone waits for the
// threads that make one (clone.h).
//
//   a block is      read                  write
//   here            destination           destination
//   not here        bring it, then read   whole: claim, write, here
//                                         part: bring it, then write
//   claimed         wait                  wait
//
// A claim is one thread's alone, and nobody who has a claim waits for another,
// so no two can wait for each other. A block that is here is never touched by
// who brings blocks again, so what clients write stays.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "../driver/lower_device.h"
#include "../export/exported_device.h"
#include "block_bits.h"

namespace snapbak {

class LazyDevice : public ExportedDevice {
 public:
  uint64_t size() const override { return size_; }
  bool read_only() const override { return false; }
  int Read(uint64_t offset, void* data, size_t length) override;
  int Write(uint64_t offset, const void* data, size_t length, bool fua) override;
  int WriteZeroes(uint64_t offset, uint64_t length, bool fua) override;
  int Flush() override;
  void Shutdown() override;

 protected:
  struct Run {
    uint64_t first, count;
  };

  // How a change treats the blocks that it meets, as ranges of the whole that begin at `done` bytes of the
  // request.
  struct Change {
    using Step = std::function<int(uint64_t offset, uint64_t length, uint64_t done)>;
    Step here;
    // Of whole blocks that are not there yet. -EOPNOTSUPP: leave them away; null: never ask.
    Step claimed;
    // A part of a block that is not there yet: bring it first, or drop that part of the change.
    bool bring_parts;
  };

  // What is not here reads as zeroes on the destination where it is `fresh`.
  LazyDevice(LowerDevice destination, uint64_t size, uint32_t block_size, bool fresh);

  // `first` is not here: brings it, and up to `max` blocks, or waits until it comes. 0: look again.
  virtual int Demand(uint64_t first, uint64_t max) = 0;
  // A client wrote all of a run that is claimed. It is to be here.
  virtual int Written(uint64_t first, uint64_t count) = 0;
  // Every write that was acknowledged before is durable afterwards.
  virtual int Sync() = 0;

  int Apply(uint64_t offset, uint64_t length, bool fua, const Change& change);
  uint64_t BytesOf(uint64_t first, uint64_t count) const;

  // Claims up to `max` blocks from `first` on that are neither here nor claimed;
  // waits while `first` is claimed. `*count` 0: it is here. 0, or what it is over with.
  int Claim(uint64_t first, uint64_t max, uint64_t* count);
  void Release(uint64_t first);
  // The claim over a block; claims_.size(): there is none. With mutex_ held, and so the next.
  size_t FindClaim(uint64_t block) const;
  uint64_t Unclaimed(uint64_t first, uint64_t count) const;

  // The bytes of a claimed run to their place; null: zeroes. 0 or -errno.
  int Store(const Run& run, const uint8_t* data);
  // After the bits of a run were set in here_, `fresh` of them just now: what was bad among them is good.
  void NoteHere(uint64_t first, uint64_t count, uint64_t fresh);

  LowerDevice destination_;
  const uint64_t size_;
  const uint32_t block_size_;
  const uint64_t blocks_;
  BlockBits here_;
  BlockBits bad_;  // not here, and nobody brings them; written under mutex_
  std::atomic<bool> fresh_;
  std::atomic<int> over_{0};  // what every request ends with from now on
  std::atomic<uint64_t> missing_{0};
  std::atomic<bool> changed_by_clients_{false};

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<Run> claims_;
  uint64_t bad_blocks_ = 0;
};

}  // namespace snapbak
