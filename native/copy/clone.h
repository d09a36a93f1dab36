// SPDX-License-Identifier: MIT
// A second device that gets every block of a backup as it is backed up, and
// can be used from the first moment: lazy_device.h has the states of a block.
// The copy threads bring them, with the bytes that they have in hand and that
// are the start instant's (after the claim, or of a capture):
//
//   a block comes, and is   the copy thread
//   not here                claims it, writes it, here
//   here                    drops it: a client wrote it whole
//   claimed by a client     drops it and marks it bad: it is good again when that
//                           write succeeds, and EIO until one does if it fails
//   invalid                 marks it bad
//
// So no copy thread, and so no write of the origin that waits for one, ever
// waits for a client. Whoever needs a block that is not here asks the session
// for it (JobQueue::AwaitDemand) and waits there. Blocks that are not in the
// list are here from the beginning, with what the destination has.
//
// A destination that fails loses the clone, and nothing else: every request
// ends with EIO from then on, the copy threads pass it by, the backup goes on.
// Memory: two bits a block.
#pragma once

#include <memory>

#include "lazy_device.h"
#include "view_gate.h"

namespace snapbak {

// Blocks.
struct CloneStats {
  uint64_t total;    // of the list: as many as are to be here
  uint64_t here;     // of them, there
  uint64_t bad;      // of them, not there, and they do not come
  uint64_t demands;  // how often a client waited for one
  uint64_t written;  // came from clients: written whole before they were here
};

class Clone : public LazyDevice {
 public:
  // `on_lost` is called once at most, on any thread, with the error (-errno) that lost the clone.
  Clone(LowerDevice destination, uint64_t size, uint32_t block_size, bool fresh,
        std::function<void(int error)> on_lost);

  // --- the session that makes it. Attach() comes before all others; -EINVAL: another size of device or
  // block.
  int Attach(uint64_t size, uint32_t block_size, std::shared_ptr<ViewGate> gate);
  // They are not in the list, or not any more.
  void Unlisted(uint64_t first, uint64_t count);
  // They were copied, and these are their bytes; null: zeroes. At once or after a write of the destination.
  // Wake readers afterwards.
  void Put(uint64_t first, uint64_t count, const uint8_t* data);
  // It could not be read from the origin.
  void Invalid(uint64_t block);

  // --- whoever has it. After the session has copied all: it is durable then, and whole but for bad blocks. 0
  // or -errno: it is lost.
  int Finish();
  // After Shutdown and the end of all requests; a session that goes on passes it by. Makes durable what
  // clients wrote. Idempotent; 0 or -errno.
  int Close();
  CloneStats Stats() const;
  uint64_t memory_bytes() const { return (here_.words() + bad_.words()) * sizeof(uint64_t); }

  void Shutdown() override;
  // Drops what is not here yet: a copy thread that came meanwhile could not know whether zeroes stand there.
  int Discard(uint64_t offset, uint64_t length) override;

 protected:
  int Sync() override;

 private:
  int Demand(uint64_t first, uint64_t max) override;
  int Written(uint64_t first, uint64_t count) override;
  bool ClaimArriving(uint64_t* at, uint64_t end, Run* run);
  void MarkBad(uint64_t first, uint64_t count);
  bool IsCopied() const;
  void Lose(int error);
  void WakeReaders();

  const std::function<void(int error)> on_lost_;
  std::shared_ptr<ViewGate> gate_;
  std::atomic<uint64_t> total_, demands_{0}, written_{0};
  std::atomic<int> lost_{0};
  std::mutex sync_mutex_;  // one flush at a time: an error of the destination is told to one of them only
  bool closed_ = false;    // guarded by sync_mutex_
};

}  // namespace snapbak
