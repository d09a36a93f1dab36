// SPDX-License-Identifier: MIT
// The origin as it stood at the start instant, to be read while the session
// runs: from the lower device, the slots, or the target, whichever has the
// block. It costs writers nothing: no write waits for a reader.
//
// A block, in this order:
//   settled      done: read the target. Not in the list: zeroes. Invalid: -EIO
//   pending      read the lower device, then look at the bit again: still set,
//                and the session unbroken, then that is the start instant's
//   in a slot    copy it out, under the lock of the job queue
//   in tier 2    it is drained next; wait until it is done
//   else         it is in somebody's hands, or its event on its way: wait
//
// A session that is finished leaves the view on the target, for as long as it
// is wanted: Close() gives the target back. A session that ends otherwise ends
// the view: -ESHUTDOWN.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "../export/exported_device.h"
#include "aligned_buffer.h"
#include "block_fates.h"
#include "target.h"
#include "view_gate.h"

namespace snapbak {

class PointInTimeView : public ExportedDevice {
 public:
  // `state` is there now; `target` is its target, and readable.
  PointInTimeView(const CopyState& state, std::shared_ptr<Target> target);

  uint64_t size() const override { return size_; }
  bool read_only() const override { return true; }
  int Read(uint64_t offset, void* data, size_t length) override;
  void Shutdown() override;
  // After Shutdown: gives back the target and all that is large. A read that is still inside has its own hold
  // of them until it comes back; Shutdown() may be called beside this. Idempotent.
  void Close();

 private:
  struct Piece {
    uint64_t offset;
    uint8_t* data;
    size_t length;
  };
  // What a read needs of its own, for it may outlive Close().
  struct Sources {
    std::shared_ptr<Target> target;
    std::shared_ptr<BlockFates> fates;
  };

  Sources Hold();
  int64_t ReadSome(const Sources& sources, const Piece& piece);
  int64_t ReadOpen(const Sources& sources, CopyState* state, const Piece& piece);
  int64_t ReadPending(CopyState* state, const Piece& piece, uint64_t end_block);
  int ReadLower(CopyState* state, const Piece& piece);
  int64_t Await(const Sources& sources, CopyState* state, const Piece& piece);
  int ReadTarget(const Sources& sources, const Piece& piece);
  size_t BytesBefore(const Piece& piece, uint64_t end_block) const;

  const uint64_t size_;
  const uint32_t block_size_;
  const bool direct_;  // the lower device wants whole sectors, aligned memory
  const std::shared_ptr<ViewGate> gate_;
  std::atomic<bool> shut_{false};

  std::mutex mutex_;                  // guards all below
  Sources sources_;                   // empty once it is closed
  std::vector<AlignedBuffer> spare_;  // for direct I/O, one a reader
};

}  // namespace snapbak
