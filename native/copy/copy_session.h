// SPDX-License-Identifier: MIT
// The library's side of one session, on threads of its own: takes events,
// sweeps in the order it is told, drains slots to the target, spills to the
// second tiers and drains those. It decides nothing about order or policy; it knows nothing
// of Node-API.
//
// Threads (all joined by Stop() and by the destructor):
//   pump     pops the event ring, feeds the queues below, kicks; sleeps in
//            Driver::WaitEvent
//   copiers  (copy_threads) take the best job there is: wanted block; drain of
//            a slot when more than `watermark_low` slots are in use; drain of
//            tier 2 when that is above its low mark; work extent by the sweep;
//            any drain. Blocks that have to leave tier 2 (spill_queue.h) take
//            turns with slots: neither writers nor they wait for the other
//   spiller  (with a tier 2 only) moves the oldest captured slots to tier 2
//            while more than `watermark_low` slots are in use
//
// A block is *safe* once it was claimed by the sweep, or its event came. It is
// *done* once its bytes (or its zeroes) and its checksum were written. The
// session is complete when all listed blocks are done or invalid. Blocks that
// are unlisted while they are pending count no more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../../kernel-module/core/snapbak_throttle.h"
#include "../driver/driver.h"
#include "checksum_file.h"
#include "clone.h"
#include "extent.h"
#include "group_start.h"
#include "target.h"
#include "tier2_set.h"
#include "view.h"

namespace snapbak {

// The lower device as the sweep reads it.
struct LowerView {
  UniqueFd fd;
  uint32_t sector_size = 512;  // smallest unit of direct I/O
  uint64_t offset = 0;         // where on it the origin begins, bytes
};

struct CopyOptions {
  uint32_t copy_threads = 2;       // 1 to 16
  uint32_t read_bytes = 1u << 19;  // one sweep read; a multiple of the block size is made of it
  uint32_t watermark_low = 0;      // slots in use above which drain and spill come before the sweep
  uint32_t drain_to = UINT32_MAX;  // slots in use down to which a full container is drained before writes get
                                   // slots again; not below watermark_low, or that would wait for the sweep
  bool lock_memory = true;         // mlock the buffers where permitted
  uint32_t target_retries = 3;     // a failed target write is tried again so often ...
  uint32_t target_retry_ms = 100;  // ... after this long, doubled each time
  uint32_t tier2_retries = 3;      // a failed read of a second tier is tried again so often ...
  uint32_t tier2_retry_ms = 20;    // ... after this long each time
};

enum class NoticeKind {
  kNeedWork = 1,     // the sweep has little work left; push more
  kComplete = 2,     // all listed blocks are done or invalid
  kInvalid = 3,      // block: the origin could not be read (error)
  kTier2Lost = 4,    // a second tier (value) failed (error) and was given up; the others go on
  kTargetError = 5,  // a target write failed for good (error); the session will not complete
  kBroken = 6,       // the driver ended the session: value = snapbak_reason, error
  kDriverGone = 7,   // the driver died, or its socket closed
  kTier2Data = 8,    // a block only in a second tier (value) is lost (error); the session will not complete
  kHint = 9,         // other processes would have something copied next: TakeHints()
};

struct Notice {
  NoticeKind kind;
  uint64_t block;  // kInvalid
  int error;       // negative errno or 0
  uint32_t value;  // kBroken: snapbak_reason; kTier2Lost, kTier2Data: number of the tier
};

// Blocks; see Tier2.
struct TierStats {
  uint32_t total, used;
  bool lost;
};

// A consistent-enough picture: each field is exact, taken at about one time.
struct CopyStats {
  uint64_t listed_blocks, done_blocks, invalid_blocks;
  uint64_t safe_blocks;      // of the listed ones, not pending any more
  uint64_t swept_blocks;     // claimed by the sweep
  uint64_t captured_blocks;  // came as captures
  uint64_t wanted_blocks;    // wanted events taken
  uint64_t zero_blocks;      // of the done ones, all zero
  uint64_t dropped_bytes;    // read by the sweep, but captured meanwhile
  uint64_t read_bytes, written_bytes;
  uint64_t spilled_blocks;  // ever moved to tier 2
  uint64_t queued_work_bytes;
  uint32_t slots_total, slots_used;        // used: captured, not yet returned
  uint64_t tier2_total, tier2_used;        // blocks, of the second tiers that are not lost
  std::vector<TierStats> tiers;            // second tiers, in order
  uint32_t state, reason;                  // of the shared header
  uint64_t counters[SNAPBAK_NR_COUNTERS];  // of the shared header
  uint64_t histograms[SNAPBAK_NR_HISTOGRAMS][SNAPBAK_HISTOGRAM_BUCKETS];  // the same
  uint64_t start_realtime_ns, arm_ns, freeze_ns;
  uint64_t buffer_bytes;  // memory that copying holds besides the slots
  bool memory_locked;
};

// When regions of the origin were written last; see "Heat" in snapbak.h.
struct HeatPicture {
  uint64_t region_size = 0;     // bytes; the last region may be shorter
  uint32_t now = 0;             // the tick of the picture
  std::vector<uint32_t> ticks;  // a region each
};

class CopySession {
 public:
  // Everything given here outlives the session; `tiers` and `checksums` may be
  // null. `notify` is called from the threads above, never two calls at once,
  // and must not block for long nor call back into the session except
  // PushWork.
  CopySession(Driver* driver, SharedMemory* memory, LowerView lower, Target* target, Tier2Set* tiers,
              ChecksumFile* checksums, const CopyOptions& options, std::function<void(const Notice&)> notify);
  ~CopySession();

  // A second device that gets every block, too. Before Prepare(); -EINVAL: it is of another size.
  int SetClone(std::shared_ptr<Clone> clone);

  // READY: allocates buffers, marks `listed` pending (whole blocks: an extent
  // is widened to the blocks it touches, overlaps count once), starts the
  // threads, which then sleep. 0 or -errno.
  int Prepare(const std::vector<Extent>& listed);

  // Fixes the point in time through the driver and lets the threads go.
  int Start(snapbak_start* start);
  // The same together with others, at one instant; see GroupStart::Run(). After an error
  // the driver's session has to be aborted at once: writes may stand still.
  GroupStart::End StartTogether(GroupStart* group, size_t number, snapbak_start* start);

  // Work for the sweep; order is kept. `priority` goes before all work that is
  // not. Handing out a block twice, or one that is not pending, is harmless.
  // Returns the bytes of the blocks among them that are pending: what is to be read.
  uint64_t PushWork(const std::vector<Extent>& work, bool priority);
  // What other processes would have copied next, since the last call; the oldest
  // first. Bounded: only the newest are kept. Inside the origin, and nothing more.
  std::vector<Extent> TakeHints();
  // As of Start(); without regions before it, or where the shared memory has no heat area.
  HeatPicture Heat() const;
  // The first pending block at or after `first`, or `end`.
  uint64_t NextPending(uint64_t first, uint64_t end) const;
  uint32_t block_size() const;
  // Stops and restarts the sweep; captures and wanted blocks go on being copied.
  void SetPaused(bool paused);
  // How the driver slows down writes that need a capture, from now on.
  void SetThrottle(const snapbak_throttle& throttle);
  // Moves the end of a second tier, in bytes of it; see Tier2::Resize(), whose
  // `done` may also say -EINVAL: there is no such tier. It must not call back.
  void ResizeTier2(uint32_t tier, uint64_t bytes, Tier2::Resized done);

  // After Start(), any thread: takes those blocks out of the list that lie inside
  // `extents` as a whole and are still pending, and tells in `taken` which they
  // are, ascending in each extent. What a writer had captured before stays
  // listed. 0 or -ENOMEM; -EINVAL where the session is not armed.
  int Unlist(const std::vector<Extent>& extents, std::vector<Extent>* taken);

  // After Start(): the origin as of then. `target` is the session's, and has to
  // be readable: else -EOPNOTSUPP. The view may outlive the session, and goes on
  // over the target if Stop() finds it finished. -ESHUTDOWN: it is over.
  int OpenView(std::shared_ptr<Target> target, std::unique_ptr<PointInTimeView>* view);

  CopyStats Stats() const;

  // Ends the threads, wherever they are, and joins them. A thread inside
  // Target::Write is waited for, and so is a view that reads the lower device.
  // Idempotent. Does not touch the driver.
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace snapbak
