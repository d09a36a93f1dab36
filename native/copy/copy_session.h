// SPDX-License-Identifier: MIT
// The library's side of one session, on threads of its own: takes events,
// sweeps in the order it is told, drains slots to the target, spills to tier 2
// and drains that. It decides nothing about order or policy; it knows nothing
// of Node-API.
//
// Threads (all joined by Stop() and by the destructor):
//   pump     pops the event ring, feeds the queues below, kicks; sleeps in
//            Driver::WaitEvent
//   copiers  (copy_threads) take the best job there is: wanted block; drain of
//            a slot when more than `watermark_low` slots are in use; drain of
//            tier 2 when that is above its low mark; work extent by the sweep;
//            any drain
//   spiller  (with tier 2 only) moves the oldest captured slots to tier 2
//            while more than `watermark_low` slots are in use
//
// A block is *safe* once it was claimed by the sweep, or its event came. It is
// *done* once its bytes (or its zeroes) and its checksum were written. The
// session is complete when all listed blocks are done or invalid.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../driver/driver.h"
#include "checksum_file.h"
#include "target.h"
#include "tier2.h"

namespace snapbak {

struct Extent {  // bytes
  uint64_t offset;
  uint64_t length;
};

struct CopyOptions {
  uint32_t copy_threads = 2;       // 1 to 16
  uint32_t read_bytes = 1u << 19;  // one sweep read; a multiple of the block size is made of it
  uint32_t watermark_low = 0;      // slots in use above which drain and spill come before the sweep
  bool lock_memory = true;         // mlock the buffers where permitted
  uint32_t target_retries = 3;     // a failed target write is tried again so often ...
  uint32_t target_retry_ms = 100;  // ... after this long, doubled each time
};

enum class NoticeKind {
  kNeedWork = 1,     // the sweep has little work left; push more
  kComplete = 2,     // all listed blocks are done or invalid
  kInvalid = 3,      // block: the origin could not be read (error)
  kTier2Lost = 4,    // tier 2 failed (error) and was given up; tier 1 goes on
  kTargetError = 5,  // a target write failed for good (error); the session will not complete
  kBroken = 6,       // the driver ended the session: value = snapbak_reason, error
  kDriverGone = 7,   // the driver died, or its socket closed
  kTier2Data = 8,    // blocks that were only in tier 2 are lost (error); the session will not complete
};

struct Notice {
  NoticeKind kind;
  uint64_t block;  // kInvalid
  int error;       // negative errno or 0
  uint32_t value;  // kBroken: snapbak_reason
};

// A consistent-enough picture: each field is exact, taken at about one time.
struct CopyStats {
  uint64_t listed_blocks, done_blocks, invalid_blocks;
  uint64_t swept_blocks;     // claimed by the sweep
  uint64_t captured_blocks;  // came as captures
  uint64_t wanted_blocks;    // wanted events taken
  uint64_t zero_blocks;      // of the done ones, all zero
  uint64_t dropped_bytes;    // read by the sweep, but captured meanwhile
  uint64_t read_bytes, written_bytes;
  uint64_t spilled_blocks;  // ever moved to tier 2
  uint64_t queued_work_bytes;
  uint32_t slots_total, slots_used;        // used: captured, not yet returned
  uint32_t tier2_total, tier2_used;        // blocks
  uint32_t state, reason;                  // of the shared header
  uint64_t counters[SNAPBAK_NR_COUNTERS];  // of the shared header
  uint64_t start_realtime_ns, arm_ns;
  uint64_t buffer_bytes;  // memory that copying holds besides the slots
  bool memory_locked;
};

class CopySession {
 public:
  // Everything given here outlives the session; `tier2` and `checksums` may be
  // null. `notify` is called from the threads above, never two calls at once,
  // and must not block for long nor call back into the session except
  // PushWork.
  CopySession(Driver* driver, SharedMemory* memory, UniqueFd lower, uint32_t sector_size, Target* target,
              Tier2* tier2, ChecksumFile* checksums, const CopyOptions& options,
              std::function<void(const Notice&)> notify);
  ~CopySession();

  // READY: allocates buffers, marks `listed` pending (whole blocks: an extent
  // is widened to the blocks it touches, overlaps count once), starts the
  // threads, which then sleep. 0 or -errno.
  int Prepare(const std::vector<Extent>& listed);

  // Fixes the point in time through the driver and lets the threads go.
  int Start(snapbak_start* start);

  // Work for the sweep; order is kept. `priority` goes before all work that is
  // not. Handing out a block twice, or one that is not pending, is harmless.
  // Returns the bytes of the blocks among them that are pending: what is to be read.
  uint64_t PushWork(const std::vector<Extent>& work, bool priority);
  // Stops and restarts the sweep; captures and wanted blocks go on being copied.
  void SetPaused(bool paused);
  // Changes the low watermark, in slots.
  void SetWatermarkLow(uint32_t slots);

  CopyStats Stats() const;

  // Ends the threads, wherever they are, and joins them. A thread inside
  // Target::Write is waited for. Idempotent. Does not touch the driver.
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace snapbak
